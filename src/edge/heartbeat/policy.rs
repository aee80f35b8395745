//! Decides how long a socket may be silent. Pure.

/// A coarse point in time: ticks since the node's start.
pub(super) type Tick = u32;

/// A tick that is never reached.
pub(super) const NEVER: Tick = Tick::MAX;

/// Reason why a socket must close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) enum CloseCause {
    /// The node is shutting down.
    Drain,
    /// No byte arrived for too long.
    Silent,
    /// The token has expired.
    Expired,
}

/// Limits for the silence of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LivenessPolicy {
    /// Ticks between two pings.
    pub(super) ping: Tick,
    /// Ticks of silence after which a socket counts as lost.
    pub(super) silence: Tick,
}

/// Result of a check, with the tick of the next check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LivenessDecision {
    Close(CloseCause),
    Ping { again: Tick },
    Wait { until: Tick },
}

impl LivenessPolicy {
    /// Decides whether a socket is pinged, closed or left alone until the next check.
    pub(super) fn evaluate(
        self,
        now: Tick,
        last_activity: Tick,
        pinged: Tick,
        expires: Tick,
    ) -> LivenessDecision {
        let silent = last_activity.saturating_add(self.silence);
        let next_ping = pinged.saturating_add(self.ping);
        if now >= expires {
            LivenessDecision::Close(CloseCause::Expired)
        } else if now >= silent {
            LivenessDecision::Close(CloseCause::Silent)
        } else if now >= next_ping {
            LivenessDecision::Ping { again: now.saturating_add(self.ping).min(silent).min(expires) }
        } else {
            LivenessDecision::Wait { until: next_ping.min(silent).min(expires) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: LivenessPolicy = LivenessPolicy { ping: 25, silence: 36 };

    proptest! {
        /// A socket is pinged at the configured interval and never closed while its client answers every ping; a
        /// silent socket is closed in time.
        #[test]
        fn only_silence_ends_a_socket(replies in 0u32..20, delay in 0u32..10) {
            let (mut now, mut last_activity, mut pinged, mut pings) = (0, 0, 0, 0);
            let end = loop {
                match POLICY.evaluate(now, last_activity, pinged, NEVER) {
                    LivenessDecision::Close(cause) => break cause,
                    LivenessDecision::Ping { again } => {
                        prop_assert!(now - pinged == 25 || pings == 0);
                        prop_assert!(again > now);
                        pinged = now;
                        pings += 1;
                        if pings <= replies {
                            last_activity = now + delay;
                        }
                        now = again;
                    }
                    LivenessDecision::Wait { until } => {
                        prop_assert!(until > now);
                        now = until;
                    }
                }
            };
            prop_assert_eq!(end, CloseCause::Silent);
            prop_assert_eq!(now, last_activity + 36);
            prop_assert!(pings > replies);
        }
    }

    #[test]
    fn an_expired_token_ends_a_lively_socket() {
        assert_eq!(POLICY.evaluate(10, 10, 0, 20), LivenessDecision::Wait { until: 20 });
        assert_eq!(POLICY.evaluate(20, 20, 0, 20), LivenessDecision::Close(CloseCause::Expired));
    }
}
