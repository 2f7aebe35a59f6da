//! Classes: how datasets of one kind are protected (FORMAT.md section 8).

use minicbor::{Decode, Encode};

use super::numbered::numbered;
use crate::{
    context::PayloadLength,
    geometry::{Code, Geometry},
    wire::Rule,
};

/// How many bytes of each shard are read back before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReadBack {
    /// Its length and one random group.
    Group,
    /// Everything.
    Full,
}

numbered!(ReadBack { Group = 0: "group", Full = 1: "full" });

/// How datasets of one kind are protected.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Class {
    /// Its number.
    #[n(0)]
    pub id: u32,
    #[n(1)]
    pub(super) code: u8,
    #[n(2)]
    pub(super) data: u8,
    #[n(3)]
    pub(super) parity: u8,
    /// f: sites that may be lost after a commit.
    #[n(4)]
    pub losses: u8,
    /// b: sites that may lie at the same time.
    #[n(5)]
    pub liars: u8,
    #[n(6)]
    payload_bytes: u32,
    /// How shards are read back.
    #[n(7)]
    pub read_back: ReadBack,
    /// Whom its run keys are wrapped to.
    #[n(8)]
    pub recipient_set: u32,
}

/// What a class is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassPolicy {
    /// k and n.
    pub geometry: Geometry,
    /// f.
    pub losses: u8,
    /// b.
    pub liars: u8,
    /// Payload of a full shard.
    pub payload: PayloadLength,
    /// How shards are read back.
    pub read_back: ReadBack,
}

impl Class {
    /// A class of Reed-Solomon coded stripes.
    pub fn new(id: u32, recipient_set: u32, policy: ClassPolicy) -> Self {
        Self {
            id,
            code: Code::ReedSolomonVandermonde.number(),
            data: policy.geometry.data(),
            parity: policy.geometry.parity(),
            losses: policy.losses,
            liars: policy.liars,
            payload_bytes: policy.payload.bytes() as u32,
            read_back: policy.read_back,
            recipient_set,
        }
    }

    /// What the class demands; an error when a stranger's charter holds numbers that fit no stripe.
    pub fn policy(&self) -> Result<ClassPolicy, Rule> {
        Code::from_number(self.code).ok_or_else(|| Rule::new("bad-suite", format!("code {} is unknown", self.code)))?;
        let geometry =
            Geometry::new(self.data, self.parity).map_err(|bad| Rule::new("bad-geometry", bad.to_string()))?;
        let needed = u16::from(self.data) + u16::from(self.losses) + u16::from(self.liars);
        if needed > u16::from(geometry.total()) || self.liars >= self.data {
            return Err(Rule::new(
                "bad-geometry",
                format!("{geometry} can't lose {} sites with {} liars", self.losses, self.liars),
            ));
        }
        Ok(ClassPolicy {
            geometry,
            losses: self.losses,
            liars: self.liars,
            payload: PayloadLength::new(self.payload_bytes as usize, self.data)?,
            read_back: self.read_back,
        })
    }
}
