//! Exit codes (DESIGN section 9), and which one is told when there are several.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// The command line or the configuration is wrong.
    Usage,
    /// Done, with findings.
    Findings,
    /// Fewer than k shards: unrecoverable.
    Unrecoverable,
    /// Refused by a policy or a signature.
    Refused,
    /// The result is stale, or provisional.
    Stale,
    /// Interrupted at a stripe boundary.
    Interrupted,
}

impl Exit {
    /// The process's code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Findings => 3,
            Self::Unrecoverable => 4,
            Self::Refused => 5,
            Self::Stale => 6,
            Self::Interrupted => 130,
        }
    }

    /// The graver of two: 5, 4, 6, 1, 3, 0. Usage comes before anything was done; an interrupted command did not come
    /// to its end, so it is no success, but what it found out before weighs more.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if other.gravity() > self.gravity() { other } else { self }
    }

    const fn gravity(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Findings => 1,
            Self::Failed => 2,
            Self::Interrupted => 3,
            Self::Stale => 4,
            Self::Unrecoverable => 5,
            Self::Refused => 6,
            Self::Usage => 7,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_code_is_told() {
        let order = [
            Exit::Refused,
            Exit::Unrecoverable,
            Exit::Stale,
            Exit::Failed,
            Exit::Findings,
            Exit::Done,
        ];
        assert_eq!(order.map(Exit::code), [5, 4, 6, 1, 3, 0]);
        for (at, graver) in order.iter().enumerate() {
            for lesser in &order[at..] {
                assert_eq!(graver.and(*lesser), *graver);
                assert_eq!(lesser.and(*graver), *graver);
            }
        }
    }
}
