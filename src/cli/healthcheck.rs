//! `pagewire healthcheck`: what a container's health check runs, since the image has no shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use pagewire_cluster::timing::Timing;

use super::config::ConfigFile;
use super::server::{client, send};
use super::{Exit, Failure, output};

/// Arguments of `healthcheck`.
#[derive(Args)]
pub(super) struct Healthcheck {
    /// The node's address; if absent, where the configuration says that it listens.
    #[arg(long, env = "PAGEWIRE_URL")]
    url: Option<String>,
    /// Ask whether the process lives, not whether it can take traffic.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    config: ConfigFile,
}

impl Healthcheck {
    /// Done when the node answers well.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let url = match self.url {
            Some(url) => url,
            None => local(self.config.load(Vec::new())?.listen),
        };
        let path = if self.live { "livez" } else { "readyz" };
        let request = client()?.get(format!("{}/{path}", url.trim_end_matches('/')));
        let response = send(request, Timing::from_environment().deliver).await?;
        match response.status() {
            status if status.is_success() => {
                output::print(if self.live { "alive" } else { "ready" });
                Ok(())
            }
            status => Err(Exit::Failed.because(format!("{url}/{path} answers {status}"))),
        }
    }
}

/// How a process on this machine reaches a listener.
fn local(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_listens_everywhere_is_asked_here() {
        assert_eq!(local("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(local("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(local("10.0.0.7:80".parse().unwrap()), "http://10.0.0.7:80");
    }
}
