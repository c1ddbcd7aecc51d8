//! STUB
#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]
pub struct Metrics {}
impl Metrics {
    pub fn slow_reader_dropped(&self) {}
    pub fn stream_opened(&self, e: &str) {}
    pub fn stream_closed(&self, e: &str) {}
    pub fn events_published(&self, e: &str, n: usize) {}
    pub fn http_request(&self, n: usize, e: &str, c: u16, d: std::time::Duration) {}
    pub fn http_content_length(&self, l: u64) {}
    pub fn encode(&self) -> String {
        String::new()
    }
}
