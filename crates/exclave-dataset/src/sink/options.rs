//! What a restore may do to its target.

/// What happens to things that already lie in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// The target must be empty or absent, and every name is taken once.
    #[default]
    Refuse,
    /// Directories are merged; whatever else bears an entry's name is replaced, when the new one is complete.
    /// A directory is never removed. An interrupted restore goes on with this.
    Replace,
}

/// Whether setuid, setgid, sticky bits and file capabilities are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialModes {
    /// Permission bits only: a restored program runs with its caller's rights.
    #[default]
    Strip,
    /// As in the manifest, where the owner could be restored too.
    Keep,
}

/// Whether fifos, sockets and device nodes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpecialNodes {
    /// Counted, not made: opening one may hang a reader or reach hardware.
    #[default]
    Skip,
    /// Made; devices need privilege.
    Create,
}

/// Whether owners are restored, by number: names would need an identity provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// When the process runs as root.
    #[default]
    Auto,
    /// Never: everything belongs to the process.
    Skip,
}

/// Whether extended attributes are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Xattrs {
    /// `user.*` and POSIX ACLs always, `security.*` and `trusted.*` as root, file capabilities with
    /// [`SpecialModes::Keep`] only.
    #[default]
    Auto,
    /// None.
    Skip,
}

/// What a restore may do. The default gives nothing away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Things that already lie in the target.
    pub existing: Existing,
    /// Setuid, setgid, sticky, capabilities.
    pub special_modes: SpecialModes,
    /// Fifos, sockets, devices.
    pub special_nodes: SpecialNodes,
    /// Owner and group.
    pub owners: Owners,
    /// Extended attributes.
    pub xattrs: Xattrs,
}
