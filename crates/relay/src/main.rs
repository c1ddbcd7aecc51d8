//! The program: settings, logs, signals, then the role. Composition is in `role`.

use std::{io::Write as _, process::ExitCode};

use ff_relay::{
    check, explain, healthcheck,
    observe::logs,
    role::{self, Listeners, RunError, Signals, Tuning, demo, fleet},
    settings::{Command, EXIT_CODE, Explain, ExplainFrom, Faults, Mode, Settings},
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = match Settings::from_process() {
        Ok(command) => command,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(EXIT_CODE);
        }
    };
    // One TLS provider in the process; a second installation is the only way to fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(command));
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    code
}

enum Work {
    Relay,
    Demo,
    Fleet,
}

async fn run(command: Command) -> ExitCode {
    let (settings, work) = match command {
        Command::Print(text) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Command::Healthcheck { url } => {
            return match healthcheck::ask(&url).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => {
                    eprintln!("{reason}");
                    ExitCode::FAILURE
                }
            };
        }
        Command::Run(settings) => (settings, Work::Relay),
        Command::Demo(settings) => (settings, Work::Demo),
        Command::DemoFleet(settings) => (settings, Work::Fleet),
        Command::Check { settings, json } => return checked(settings, json).await,
        Command::Explain(explain) => return explained(*explain).await,
    };
    let _logs = match logs::start(settings.log_format, settings.log_level) {
        Ok(guard) => guard,
        Err(error) => {
            eprintln!("cannot log: {error}");
            return ExitCode::FAILURE;
        }
    };
    for (name, reason) in settings.not_yet_effective() {
        tracing::warn!(setting = name, "{reason}");
    }
    for note in &settings.notes {
        tracing::warn!("{note}");
    }
    let ended = async {
        let (signals, listen) =
            Signals::of_process().map_err(|error| RunError::Start(error.to_string()))?;
        let work = async {
            match work {
                Work::Demo => return Box::pin(demo::demo(*settings, signals)).await,
                Work::Fleet => return fleet::fleet(&settings, signals).await,
                Work::Relay => {}
            }
            if settings.mode == Mode::GenerateOfflineConfig {
                let tuning = Tuning::default();
                let out = &mut std::io::stdout();
                return role::generate(&settings, &tuning, &signals, out).await;
            }
            let listeners = Listeners::bind(&settings).await?;
            tracing::info!(version = env!("CARGO_PKG_VERSION"), ports = ?listeners.ports(), "listening");
            role::run(*settings, Tuning::default(), listeners, signals).await
        };
        tokio::select! {
            ended = work => ended,
            () = listen => Ok(()),
        }
    };
    match Box::pin(ended).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Faults of files are a line each, and a line of the log has none within.
            let text = error.to_string();
            let mut lines = text.lines();
            let error = lines.next().unwrap_or_default().trim_end_matches(':');
            for fault in lines {
                tracing::error!("{fault}");
            }
            tracing::error!(error, "the relay cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn checked(settings: Result<Box<Settings>, Faults>, json: bool) -> ExitCode {
    // Whoever closed our output still gets the exit code.
    let say = |text: String| _ = writeln!(std::io::stdout(), "{text}");
    let mut tell = |finding: &check::Finding| {
        if !json {
            say(finding.to_string());
        }
    };
    // Aside, where it is nobody's answer.
    let mut progress = |line: &str| _ = writeln!(std::io::stderr(), "  … {line}");
    let mut report = check::Report::new(&mut tell).with_progress(&mut progress);
    check::run(&settings, check::Patience::default(), &mut report).await;
    let (passed, last) = (
        report.passed(),
        if json {
            report.json()
        } else {
            format!("\n{}", report.summary())
        },
    );
    say(last);
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn explained(asked: Explain) -> ExitCode {
    let (question, text) = (&asked.question, !asked.json);
    let answer = match &asked.from {
        ExplainFrom::Directory(path) => {
            explain::from_directory(question, path, asked.and_rules, text).await
        }
        ExplainFrom::Relay(url) => explain::from_relay(question, url, text).await,
    };
    match answer {
        Ok(answer) => {
            let _ = writeln!(std::io::stdout(), "{}", answer.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
