//! A share of the users, in steps of 0.01 %.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Number of buckets, which is the weight of all users.
pub const BUCKETS: u16 = 10_000;

/// A share of 0 … 100 % in steps of 0.01 %. Serialized as a number of percent, `12.5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// The value is not a share of the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is 0 to 100 percent in steps of 0.01")]
pub struct InvalidWeight;

impl Weight {
    /// Creates a weight from a number of buckets. Returns `None` above [`BUCKETS`].
    pub const fn of_buckets(buckets: u16) -> Option<Self> {
        if buckets <= BUCKETS { Some(Self(buckets)) } else { None }
    }

    /// Creates a weight from a number of percent.
    ///
    /// # Errors
    ///
    /// [`InvalidWeight`] when the number is not in 0 … 100, or not a multiple of 0.01.
    pub fn of_percent(percent: f64) -> Result<Self, InvalidWeight> {
        let buckets = (percent * 100.0).round();
        let exact = (percent * 100.0 - buckets).abs() < 1e-6;
        // the range check also rejects NaN
        if (0.0..=f64::from(BUCKETS)).contains(&buckets) && exact {
            Ok(Self(buckets as u16))
        } else {
            Err(InvalidWeight)
        }
    }

    /// Returns the margin of a promotion that sets none: 5 percent points.
    pub(super) const fn default_margin() -> Self {
        Self(500)
    }

    /// Returns the number of buckets.
    pub const fn buckets(self) -> u16 {
        self.0
    }

    /// Returns the weight in percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

impl FromStr for Weight {
    type Err = InvalidWeight;

    /// Parses `10`, `12.5` and `12.5%`.
    fn from_str(text: &str) -> Result<Self, InvalidWeight> {
        let number = text.strip_suffix('%').unwrap_or(text);
        Self::of_percent(number.parse().map_err(|_| InvalidWeight)?)
    }
}

impl Serialize for Weight {
    /// Serializes a whole number of percent as an integer.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(self.percent())
        }
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_percent(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_reads_back_as_written() {
        for buckets in 0..=BUCKETS {
            let weight = Weight::of_buckets(buckets).unwrap();
            assert_eq!(weight.to_string().parse(), Ok(weight));
            let json = serde_json::to_string(&weight).unwrap();
            assert_eq!(serde_json::from_str::<Weight>(&json).unwrap(), weight, "{json}");
        }
        assert_eq!(serde_json::to_string(&Weight(1250)).unwrap(), "12.5");
        assert_eq!(serde_json::to_string(&Weight(BUCKETS)).unwrap(), "100");
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for wrong in ["", "%", "-1", "100.01", "0.001", "NaN", "inf", "1e9", "ten", "10 %"] {
            assert!(wrong.parse::<Weight>().is_err(), "{wrong}");
        }
        assert_eq!(Weight::of_buckets(BUCKETS + 1), None);
    }
}
