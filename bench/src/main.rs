//! How fast the relay is: builds and starts all that is needed, runs the relay and a bare hyper
//! server that answers the same bytes in turn, and prints Markdown tables. `README.md` says how to
//! read them.

mod ask;
mod bare;
mod data;
mod http_part;
mod idle;
mod listeners;
mod mixed;
mod process;
mod redis_part;
mod start;
mod streams;
mod table;
mod tls_part;
mod wrk;

use std::{path::PathBuf, process::Command, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Whatever went wrong ends the benchmark with its text.
type Fault = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Fault>;

/// Measures the relay beside a bare hyper server and prints Markdown tables.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// What to measure; everything if nothing is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Alternating rounds of everything
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How many streams, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 19_500])]
    streams: Vec<usize>,
    /// Only rows of `http` whose name holds this
    #[arg(long)]
    only: Option<String>,
    /// A relay to measure instead of building this one
    #[arg(long)]
    relay: Option<PathBuf>,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Reads, evaluations, authentication and metrics
    Http,
    /// Opening streams, memory of each, delivery of events
    Streams,
    /// Memory of streams that are held over TLS
    Tls,
    /// From nothing to ready, at three sizes
    Start,
    /// CPU and memory of a relay that nobody asks anything
    Idle,
    /// Reads while metrics flood and flags change
    Mixed,
    /// Commands of a Redis for each request
    Redis,
    /// All of them
    All,
}

#[derive(Subcommand)]
enum Inner {
    /// The bare server: answers every request as the file says
    #[command(hide = true)]
    Bare {
        /// An answer as JSON
        answer: PathBuf,
    },
    /// The bare broadcast: `/stream` and `/publish`
    #[command(hide = true)]
    Broadcast,
    /// The same over TLS
    #[command(hide = true)]
    BroadcastTls {
        /// Its certificate
        cert: PathBuf,
        /// The key of that
        key: PathBuf,
    },
}

/// What all parts need to know.
struct Plan {
    relay: PathBuf,
    rounds: usize,
    load: Duration,
    streams: Vec<usize>,
    only: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    // It has the only provider that is built in, but does not know that.
    _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    match args.inner {
        Some(Inner::Bare { answer }) => return runtime.block_on(bare::answers(&answer)),
        Some(Inner::Broadcast) => return runtime.block_on(bare::broadcasts()),
        Some(Inner::BroadcastTls { cert, key }) => {
            return runtime.block_on(bare::broadcasts_by_tls(&cert, &key));
        }
        None => {}
    }
    let wants =
        |part| args.parts.is_empty() || args.parts.iter().any(|p| [part, Part::All].contains(p));
    let plan = Plan {
        relay: args.relay.clone().map_or_else(build, Ok)?,
        rounds: args.rounds.max(1),
        load: Duration::from_secs_f64(args.seconds),
        streams: args.streams.clone(),
        only: args.only.clone().unwrap_or_default(),
    };
    println!("{}\n", table::machine());
    if wants(Part::Http) {
        wrk::install()?;
        runtime.block_on(http_part::run(&plan))?;
    }
    if wants(Part::Mixed) {
        wrk::install()?;
        runtime.block_on(mixed::run(&plan))?;
    }
    if wants(Part::Streams) {
        runtime.block_on(streams::run(&plan))?;
    }
    if wants(Part::Tls) {
        runtime.block_on(tls_part::run(&plan))?;
    }
    if wants(Part::Redis) {
        wrk::install()?;
        runtime.block_on(redis_part::run(&plan))?;
    }
    if wants(Part::Start) {
        runtime.block_on(start::run(&plan))?;
    }
    if wants(Part::Idle) {
        runtime.block_on(idle::run(&plan))?;
    }
    Ok(())
}

/// Builds the relay with the profile that this program was built with, and so the bare server, and
/// finds it beside this program.
fn build() -> Result<PathBuf> {
    let relay = std::env::current_exe()?.with_file_name("ff-relay");
    let folder = relay.parent().and_then(|folder| folder.file_name());
    let profile = folder.ok_or("this program is in no folder of a profile")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--locked", "-p", "ff-relay"])
        .args(["--no-default-features", "--profile"]) // as the image is built
        .arg(profile)
        .status()?;
    if !built.success() {
        return Err("the relay could not be built".into());
    }
    Ok(relay)
}
