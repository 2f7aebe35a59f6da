//! Packets of SFTP version 3, as draft-ietf-secsh-filexfer-02 lays them out, with OpenSSH's extensions (its file PROTOCOL,
//! section 4). Nothing here does I/O.
//!
//! A packet is its length (4 bytes), its type (1), the request's number (4) and the rest; a string is its length (4) and
//! its bytes. Handles and names are bytes, not text: a server may take any. What a server sends is looked at within the
//! packet's bounds and never believed about its own lengths.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version that we speak, and nearly everyone.
pub(super) const VERSION: u32 = 3;

/// Longest packet that we take: OpenSSH's own bound.
pub(super) const PACKET_BYTES_MAX: u32 = 256 << 10;

/// Status codes (section 7), and those of later versions that some servers send in this one
/// (draft-ietf-secsh-filexfer-13 section 9.1).
pub(super) mod status {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const FAILURE: u32 = 4;
    pub(in super::super) const NO_CONNECTION: u32 = 6;
    pub(in super::super) const CONNECTION_LOST: u32 = 7;
    pub(in super::super) const OP_UNSUPPORTED: u32 = 8;
    pub(in super::super) const NO_SUCH_PATH: u32 = 10;
    pub(in super::super) const FILE_ALREADY_EXISTS: u32 = 11;
    pub(in super::super) const WRITE_PROTECT: u32 = 12;
    pub(in super::super) const NO_SPACE_ON_FILESYSTEM: u32 = 14;
    pub(in super::super) const QUOTA_EXCEEDED: u32 = 15;
}

const INIT: u8 = 1;
const VERSION_REPLY: u8 = 2;
const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;
const EXTENDED: u8 = 200;
const EXTENDED_REPLY: u8 = 201;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// To be read.
    Read,
    /// To be written; it must not be there yet.
    WriteNew,
}

impl Access {
    /// Flags of section 6.3: READ; WRITE, CREAT and EXCL.
    fn flags(self) -> u32 {
        match self {
            Self::Read => 0x01,
            Self::WriteNew => 0x02 | 0x08 | 0x20,
        }
    }
}

/// What we ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Open {
        path: &'a str,
        access: Access,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        bytes: u32,
    },
    /// The bytes themselves follow the packet's head.
    Write {
        handle: &'a [u8],
        offset: u64,
        bytes: u32,
    },
    Lstat {
        path: &'a str,
    },
    OpenDirectory {
        path: &'a str,
    },
    ReadDirectory {
        handle: &'a [u8],
    },
    Remove {
        path: &'a str,
    },
    MakeDirectory {
        path: &'a str,
    },
    /// What it does to a name that is taken is the server's choice.
    Rename {
        from: &'a str,
        to: &'a str,
    },
    Stat {
        path: &'a str,
    },
    /// `posix-rename@openssh.com`: replaces.
    PosixRename {
        from: &'a str,
        to: &'a str,
    },
    /// `hardlink@openssh.com`: fails where the name is taken.
    Hardlink {
        from: &'a str,
        to: &'a str,
    },
    /// `fsync@openssh.com`.
    Fsync {
        handle: &'a [u8],
    },
    /// `statvfs@openssh.com`.
    Statvfs {
        path: &'a str,
    },
    /// `limits@openssh.com`.
    Limits,
}

impl Request<'_> {
    /// The packet, but for the bytes of a write.
    pub(super) fn encode(&self, number: u32) -> Bytes {
        let mut packet = BytesMut::with_capacity(64);
        packet.put_u32(0);
        packet.put_u8(self.kind());
        packet.put_u32(number);
        let mut following = 0;
        match self {
            Self::Open { path, access } => {
                put_string(&mut packet, path.as_bytes());
                packet.put_u32(access.flags());
                // No attributes: rights are the server's to choose.
                packet.put_u32(0);
            }
            Self::MakeDirectory { path } => {
                put_string(&mut packet, path.as_bytes());
                packet.put_u32(0);
            }
            Self::Close { handle } | Self::ReadDirectory { handle } => put_string(&mut packet, handle),
            Self::Read { handle, offset, bytes } => {
                put_string(&mut packet, handle);
                packet.put_u64(*offset);
                packet.put_u32(*bytes);
            }
            Self::Write { handle, offset, bytes } => {
                put_string(&mut packet, handle);
                packet.put_u64(*offset);
                packet.put_u32(*bytes);
                following = *bytes;
            }
            Self::Lstat { path } | Self::Stat { path } | Self::OpenDirectory { path } | Self::Remove { path } => {
                put_string(&mut packet, path.as_bytes());
            }
            Self::Rename { from, to } => {
                put_string(&mut packet, from.as_bytes());
                put_string(&mut packet, to.as_bytes());
            }
            Self::PosixRename { from, to } => put_extended(&mut packet, "posix-rename@openssh.com", &[from, to]),
            Self::Hardlink { from, to } => put_extended(&mut packet, "hardlink@openssh.com", &[from, to]),
            Self::Statvfs { path } => put_extended(&mut packet, "statvfs@openssh.com", &[path]),
            Self::Limits => put_extended(&mut packet, "limits@openssh.com", &[]),
            Self::Fsync { handle } => {
                put_string(&mut packet, b"fsync@openssh.com");
                put_string(&mut packet, handle);
            }
        }
        // Paths are below 5 KiB and pieces below 256 KiB, so the sum fits.
        let length = u32::try_from(packet.len() - 4)
            .unwrap_or(u32::MAX)
            .saturating_add(following);
        if let Some(place) = packet.first_chunk_mut::<4>() {
            *place = length.to_be_bytes();
        }
        packet.freeze()
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Open { .. } => 3,
            Self::Close { .. } => 4,
            Self::Read { .. } => 5,
            Self::Write { .. } => 6,
            Self::Lstat { .. } => 7,
            Self::OpenDirectory { .. } => 11,
            Self::ReadDirectory { .. } => 12,
            Self::Remove { .. } => 13,
            Self::MakeDirectory { .. } => 14,
            Self::Stat { .. } => 17,
            Self::Rename { .. } => 18,
            Self::PosixRename { .. }
            | Self::Hardlink { .. }
            | Self::Fsync { .. }
            | Self::Statvfs { .. }
            | Self::Limits => EXTENDED,
        }
    }
}

/// The first packet of a session.
pub(super) fn init() -> Bytes {
    let mut packet = BytesMut::with_capacity(9);
    packet.put_u32(5);
    packet.put_u8(INIT);
    packet.put_u32(VERSION);
    packet.freeze()
}

/// What a server answered, its number taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// One thing in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Its name, whatever the server took for one.
    pub(super) name: Bytes,
    pub(super) attributes: Attributes,
}

/// What a server says of a file; the parts that we look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) length: Option<u64>,
    mode: Option<u32>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Regular,
    Directory,
    /// A link, a pipe, a device.
    Other,
    /// The server doesn't say.
    Unknown,
}

impl Attributes {
    /// POSIX's file type bits (IEEE Std 1003.1, `sys/stat.h`), which section 5 refers to.
    pub(super) fn kind(&self) -> FileKind {
        match self.mode.map(|mode| mode & 0o170_000) {
            Some(0o100_000) => FileKind::Regular,
            Some(0o040_000) => FileKind::Directory,
            Some(0) | None => FileKind::Unknown,
            Some(_) => FileKind::Other,
        }
    }
}

/// What a server said at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u32,
    /// Names and versions of its extensions.
    pub(super) extensions: Vec<(Bytes, Bytes)>,
}

impl Hello {
    /// Reads the packet after its length.
    pub(super) fn decode(packet: Bytes) -> Result<Self, Malformed> {
        let mut rest = Rest(packet);
        if rest.byte()? != VERSION_REPLY {
            return Err(Malformed("no SFTP version"));
        }
        let version = rest.u32()?;
        let mut extensions = Vec::new();
        while !rest.0.is_empty() {
            extensions.push((rest.string()?, rest.string()?));
        }
        Ok(Self { version, extensions })
    }

    /// True when it offers an extension in this version.
    pub(super) fn offers(&self, name: &str, version: &str) -> bool {
        self.extensions.iter().any(|(n, v)| n == name && v == version)
    }
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Reply {
    /// The type and the number of the request that a packet answers.
    pub(super) fn head(packet: &mut Bytes) -> Result<(u8, u32), Malformed> {
        if packet.len() < 5 {
            return Err(Malformed("a packet without a number"));
        }
        Ok((packet.get_u8(), packet.get_u32()))
    }

    /// Reads what follows the head.
    pub(super) fn decode(kind: u8, body: Bytes) -> Result<Self, Malformed> {
        let mut rest = Rest(body);
        Ok(match kind {
            STATUS => Self::Status {
                code: rest.u32()?,
                // Some servers leave the message out.
                message: rest.string().map(|text| shown(&text)).unwrap_or_default(),
            },
            HANDLE => Self::Handle(rest.string()?),
            DATA => Self::Data(rest.string()?),
            NAME => Self::Names(rest.names()?),
            ATTRS => Self::Attributes(rest.attributes()?),
            EXTENDED_REPLY => Self::Extended(rest.0),
            _ => return Err(Malformed("a packet of unknown type")),
        })
    }
}

/// A server's text as one short line.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

/// The rest of a packet.
pub(super) struct Rest(pub(super) Bytes);

impl Rest {
    fn byte(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| CUT)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| CUT)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| CUT)
    }

    fn string(&mut self) -> Result<Bytes, Malformed> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(CUT);
        }
        Ok(self.0.split_to(length))
    }

    fn names(&mut self) -> Result<Vec<Name>, Malformed> {
        // The count isn't believed: each name takes bytes of the packet.
        let mut names = Vec::new();
        for _ in 0..self.u32()? {
            let name = self.string()?;
            let _long_name = self.string()?;
            let attributes = self.attributes()?;
            names.push(Name { name, attributes });
        }
        Ok(names)
    }

    /// Section 5: a word of flags, and what it says is there.
    fn attributes(&mut self) -> Result<Attributes, Malformed> {
        let flags = self.u32()?;
        if flags & !0x8000_000f != 0 {
            return Err(Malformed("unknown attributes"));
        }
        let mut found = Attributes::default();
        if flags & 1 != 0 {
            found.length = Some(self.u64()?);
        }
        if flags & 2 != 0 {
            let _owner_and_group = (self.u32()?, self.u32()?);
        }
        if flags & 4 != 0 {
            found.mode = Some(self.u32()?);
        }
        if flags & 8 != 0 {
            let _times = (self.u32()?, self.u32()?);
        }
        if flags & 0x8000_0000 != 0 {
            for _ in 0..self.u32()? {
                let _extension = (self.string()?, self.string()?);
            }
        }
        Ok(found)
    }
}

const CUT: Malformed = Malformed("a packet that ends early");

fn put_string(packet: &mut BytesMut, bytes: &[u8]) {
    packet.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    packet.put_slice(bytes);
}

fn put_extended(packet: &mut BytesMut, name: &str, arguments: &[&str]) {
    put_string(packet, name.as_bytes());
    for argument in arguments {
        put_string(packet, argument.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_draft_says() {
        let open = Request::Open {
            path: "/a",
            access: Access::WriteNew,
        };
        assert_eq!(
            open.encode(7),
            [
                &[0, 0, 0, 19, 3, 0, 0, 0, 7, 0, 0, 0, 2][..],
                b"/a",
                &[0, 0, 0, 0x2a, 0, 0, 0, 0]
            ]
            .concat()
        );
        // The bytes of a write count, and come after.
        let write = Request::Write {
            handle: &[0xff, 0],
            offset: 1 << 32,
            bytes: 5,
        };
        assert_eq!(
            write.encode(1),
            [
                0, 0, 0, 28, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5
            ]
            .as_slice()
        );
        let link = Request::Hardlink { from: "/a", to: "/b" }.encode(1);
        assert_eq!(link.len(), 4 + 5 + 4 + "hardlink@openssh.com".len() + 6 + 6);
        assert_eq!(link.first_chunk(), Some(&[0, 0, 0, 41]));
    }

    fn names(count: u32, items: &[(&[u8], u32)]) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u32(count);
        for (name, mode) in items {
            put_string(&mut body, name);
            put_string(&mut body, b"a long name");
            body.put_u32(0x8000_000f);
            body.put_u64(3);
            body.put_u64(0);
            body.put_u32(*mode);
            body.put_u64(0);
            body.put_u32(1);
            put_string(&mut body, b"what");
            put_string(&mut body, b"ever");
        }
        body.freeze()
    }

    #[test]
    fn names_are_bytes_with_what_the_server_says_of_them() {
        let body = names(3, &[(b"a", 0o100_644), (b"\xff\0/..", 0o040_755), (b"", 0o120_777)]);
        let Ok(Reply::Names(found)) = Reply::decode(NAME, body) else {
            panic!("no names");
        };
        let kinds: Vec<_> = found.iter().map(|name| name.attributes.kind()).collect();
        assert_eq!(kinds, [FileKind::Regular, FileKind::Directory, FileKind::Other]);
        assert_eq!(found[1].name, &b"\xff\0/.."[..]);
        assert_eq!(found[0].attributes.length, Some(3));
    }

    #[test]
    fn no_packet_is_believed_beyond_its_end() {
        let whole = names(2, &[(b"a", 0o100_644), (b"bb", 0o100_644)]);
        for length in 0..whole.len() {
            assert!(Reply::decode(NAME, whole.slice(..length)).is_err(), "{length}");
        }
        assert!(Reply::decode(NAME, names(u32::MAX, &[(b"a", 0)])).is_err());
        for kind in 0..=255 {
            for body in [&[][..], &[0xff; 4], &[0xff; 64], &[0; 3]] {
                // Any error or answer will do; a panic won't.
                let _ = Reply::decode(kind, Bytes::copy_from_slice(body));
                let _ = Hello::decode(Bytes::copy_from_slice(body));
            }
        }
        assert!(Reply::head(&mut Bytes::from_static(&[101, 0, 0, 0])).is_err());
        assert!(Reply::decode(ATTRS, Bytes::from_static(&[0, 0, 1, 0])).is_err());
    }

    #[test]
    fn a_status_needs_no_message_and_shows_no_control_characters() {
        let bare = Reply::decode(STATUS, Bytes::from_static(&[0, 0, 0, 4]));
        assert_eq!(
            bare,
            Ok(Reply::Status {
                code: 4,
                message: String::new()
            })
        );
        let evil = Reply::decode(STATUS, Bytes::from_static(b"\0\0\0\x04\0\0\0\x03a\x1bb"));
        assert_eq!(
            evil,
            Ok(Reply::Status {
                code: 4,
                message: "a b".into()
            })
        );
    }

    #[test]
    fn the_servers_extensions_count_in_their_version_only() {
        let packet = b"\x02\0\0\0\x03\0\0\0\x04fsyn\0\0\0\x011";
        let hello = Hello::decode(Bytes::from_static(packet)).unwrap();
        assert!(hello.offers("fsyn", "1") && !hello.offers("fsyn", "2") && !hello.offers("f", "1"));
        assert_eq!(hello.version, VERSION);
        assert!(Hello::decode(Bytes::from_static(&packet[..12])).is_err());
    }
}
