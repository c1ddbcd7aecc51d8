//! One request on a connection of its own, for what is not measured.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Result;

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A connection to `port` of this machine.
pub(crate) async fn connect(port: u16) -> Result<http1::SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request on a connection and reads the whole answer.
pub(crate) async fn send(
    connection: &mut http1::SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &str,
) -> Result<Answer> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    connection.ready().await?;
    let (head, body) = connection.send_request(request).await?.into_parts();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    })
}

/// Both at once.
pub(crate) async fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &str,
) -> Result<Answer> {
    send(&mut connect(port).await?, method, path, headers, body).await
}
