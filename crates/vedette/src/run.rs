//! `vedette run`: the service.

use std::path::PathBuf;

use vedette_api::live::Mode;

use crate::{Failure, World as _, config, content, service};

/// What `run` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  vedette run -c /etc/vedette/vedette.yml

Start from vedette.example.yml, which writes every setting with its default.")]
pub struct Args {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "vedette.yml")]
    config: PathBuf,
}

/// Runs the service until it is stopped.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = config::load(&args.config, config::For::Service).map_err(Failure::Usage)?;
    crate::telemetry::start(&config.log).map_err(Failure::Usage)?;
    // Before they are read: what changes meanwhile is read again.
    let looked = content::look(&config.rules, config.schemas.as_deref());
    let text = content::rules(&config.rules)
        .map_err(|e| Failure::Usage(config.places.wrong("rules", format!("{e:#}"))))?;
    let runtime = service::runtime().world()?;
    let done = runtime.block_on(async {
        let Some(service) = service::start(config, (text, looked), Mode::Run).await? else { return Ok(()) };
        tracing::info!(api = %service.address, "ready to read");
        service.until_stopped(async |_| ()).await
    });
    // What hangs in it is not waited for.
    runtime.shutdown_background();
    done.map(|()| 0)
}
