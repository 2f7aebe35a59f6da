//! How a stripe is divided: how many shards restore it, how many there are, what may be lost.

use crate::limit::SHARDS_PER_STRIPE_MAX;

/// How a sealed stripe becomes shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Systematic Reed-Solomon over GF(2^8), polynomial 0x11D, Vandermonde rows (FORMAT.md section 6).
    ReedSolomonVandermonde,
}

impl Code {
    /// The number in contexts and ledgers.
    pub const fn number(self) -> u8 {
        match self {
            Self::ReedSolomonVandermonde => 1,
        }
    }

    /// Reads the number; `None` for a code this version does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::ReedSolomonVandermonde),
            _ => None,
        }
    }
}

/// Any `data` of the `data + parity` shards restore a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Geometry {
    data: u8,
    parity: u8,
}

/// Why two numbers are not a geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadGeometry {
    /// A stripe needs at least one data shard.
    #[error("a stripe needs at least one data shard")]
    NoData,
    /// More shards than the format has indices for.
    #[error("{data}+{parity} are {} shards, the format ends at {SHARDS_PER_STRIPE_MAX}", u16::from(*data) + u16::from(*parity))]
    TooWide {
        /// Data shards asked for.
        data: u8,
        /// Parity shards asked for.
        parity: u8,
    },
    /// The text is not of the form `4+2`.
    #[error("a code is written data+parity, such as 4+2")]
    NotWritten,
}

impl Geometry {
    /// A stripe of `data` data shards and `parity` parity shards.
    pub const fn new(data: u8, parity: u8) -> Result<Self, BadGeometry> {
        if data == 0 {
            return Err(BadGeometry::NoData);
        }
        if data as usize + parity as usize > SHARDS_PER_STRIPE_MAX {
            return Err(BadGeometry::TooWide { data, parity });
        }
        Ok(Self { data, parity })
    }

    /// k: data shards, and how many shards restore a stripe.
    pub const fn data(self) -> u8 {
        self.data
    }

    /// n - k: parity shards, and how many shards may be lost.
    pub const fn parity(self) -> u8 {
        self.parity
    }

    /// n: all shards.
    pub const fn total(self) -> u8 {
        self.data + self.parity
    }
}

impl std::fmt::Display for Geometry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl std::str::FromStr for Geometry {
    type Err = BadGeometry;

    fn from_str(text: &str) -> Result<Self, BadGeometry> {
        let (data, parity) = text.split_once('+').ok_or(BadGeometry::NotWritten)?;
        let number = |digits: &str| digits.parse::<u8>().map_err(|_| BadGeometry::NotWritten);
        Self::new(number(data)?, number(parity)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_form_is_parsed_strictly() {
        assert_eq!("4+2".parse(), Geometry::new(4, 2));
        assert_eq!("1+0".parse(), Geometry::new(1, 0));
        assert_eq!("0+2".parse::<Geometry>(), Err(BadGeometry::NoData));
        assert_eq!(
            "30+3".parse::<Geometry>(),
            Err(BadGeometry::TooWide { data: 30, parity: 3 })
        );
        for bad in ["", "4", "4+", "+2", "4+-2", "4+2+1", "400+2"] {
            assert_eq!(bad.parse::<Geometry>(), Err(BadGeometry::NotWritten), "{bad}");
        }
    }
}
