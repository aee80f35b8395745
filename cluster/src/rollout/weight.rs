//! A share of the users, in steps of 0.01 %.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The steps of a whole: a weight counts buckets, and there are as many.
pub const BUCKETS: u16 = 10_000;

/// 0 … 100 % in steps of 0.01 %. Written as a number of percent, `12.5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// Not a share of the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is 0 to 100 percent in steps of 0.01")]
pub struct InvalidWeight;

impl Weight {
    /// Everybody.
    pub const ALL: Self = Self(BUCKETS);

    /// A weight of so many buckets.
    pub const fn of_buckets(buckets: u16) -> Option<Self> {
        if buckets <= BUCKETS { Some(Self(buckets)) } else { None }
    }

    /// A weight of so many percent.
    pub fn of_percent(percent: f64) -> Result<Self, InvalidWeight> {
        let buckets = (percent * 100.0).round();
        let exact = (percent * 100.0 - buckets).abs() < 1e-6;
        // not a number is not in the range
        if (0.0..=f64::from(BUCKETS)).contains(&buckets) && exact {
            Ok(Self(buckets as u16))
        } else {
            Err(InvalidWeight)
        }
    }

    /// How many buckets it counts.
    pub const fn buckets(self) -> u16 {
        self.0
    }

    /// The same in percent.
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

    /// `10`, `12.5` and `12.5%`.
    fn from_str(text: &str) -> Result<Self, InvalidWeight> {
        let number = text.strip_suffix('%').unwrap_or(text);
        Self::of_percent(number.parse().map_err(|_| InvalidWeight)?)
    }
}

impl Serialize for Weight {
    /// A whole number where it is one.
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
        assert_eq!(serde_json::to_string(&Weight::ALL).unwrap(), "100");
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for wrong in ["", "%", "-1", "100.01", "0.001", "NaN", "inf", "1e9", "ten", "10 %"] {
            assert!(wrong.parse::<Weight>().is_err(), "{wrong}");
        }
        assert_eq!(Weight::of_buckets(BUCKETS + 1), None);
    }
}
