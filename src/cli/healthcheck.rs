//! `pagewire healthcheck`: the health check of a container, because the image has no shell.

use clap::Args;
use pagewire_cluster::timing::Timing;

use super::api_client::{client, send};
use super::config::ConfigFile;
use super::{CommandFailure, Exit, output};

/// Arguments of `healthcheck`.
#[derive(Args)]
pub(super) struct Healthcheck {
    /// Address of the node; by default the address in the configuration.
    #[arg(long, env = "PAGEWIRE_URL")]
    url: Option<String>,
    /// Check that the process is alive, not that it can take traffic.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Healthcheck {
    /// Succeeds if the node reports that it is ready, or alive with `--live`.
    pub(super) async fn run(self) -> Result<(), CommandFailure> {
        let url = match self.url {
            Some(url) => url,
            None => self.config.load(Vec::new())?.local_url(),
        };
        let path = if self.live { "livez" } else { "readyz" };
        let request = client()?.get(format!("{}/{path}", url.trim_end_matches('/')));
        let response = send(request, Timing::from_environment().deliver).await?;
        match response.status() {
            status if status.is_success() => {
                output::print(if self.live { "alive" } else { "ready" });
                Ok(())
            }
            status => Err(Exit::Failed.with_message(format!("{url}/{path} responded with {status}"))),
        }
    }
}
