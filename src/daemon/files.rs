//! Which files the monitor believes, and how it writes the ones it keeps.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Why a file is not believed, each with the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It cannot even be looked at.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to uid {uid}, not to root: chown root {path}", path = path.display())]
    Owner {
        /// The file or its directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Somebody else can write it.
    #[error("{path} can be written by others than root (mode {mode:04o}): chmod go-w {path}",
        path = path.display())]
    Writable {
        /// The file or its directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds secrets and somebody else can read it.
    #[error("{path} holds secrets and can be read by others than root (mode {mode:04o}): \
        chmod go-r {path}", path = path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A file, open. What is asked of it is asked of that file, whatever its name may lead to later.
#[derive(Debug)]
pub struct Believed {
    file: File,
    /// Without symbolic links.
    path: PathBuf,
    mode: u32,
    /// Whether others can search every directory above it.
    reach: bool,
}

impl Believed {
    /// Opens a file in which root alone decides what stands: it and its directory belong to root
    /// and are writable by nobody else.
    ///
    /// # Errors
    /// The first thing wrong.
    pub fn open(path: &Path) -> Result<Believed, Distrust> {
        let (file, doubt) = Believed::or_not(path)?;
        doubt.map_or(Ok(file), Err)
    }

    /// The file, and why it should not be believed.
    fn or_not(path: &Path) -> Result<(Believed, Option<Distrust>), Distrust> {
        let wanted = |e| unreadable(path, &e);
        let path = fs::canonicalize(path).map_err(wanted)?;
        let file = File::open(&path).map_err(wanted)?;
        let meta = file.metadata().map_err(wanted)?;
        let mut roots = belongs_to_root(&path, &meta);
        let mut reach = true;
        for (n, directory) in path.ancestors().skip(1).enumerate() {
            let meta = look(directory)?;
            if n == 0 {
                roots = roots.and_then(|()| belongs_to_root(directory, &meta));
            }
            reach &= meta.mode() & 0o011 != 0;
        }
        let mode = meta.mode() & 0o7777;
        let file = Believed {
            file,
            path,
            mode,
            reach,
        };
        Ok((file, roots.err()))
    }

    /// Whether root alone can read it. It counts as readable by others only if they can also
    /// search every directory above it.
    ///
    /// # Errors
    /// [`Distrust::Readable`].
    pub fn private(&self) -> Result<(), Distrust> {
        match self.reach && self.mode & 0o044 != 0 {
            true => Err(Distrust::Readable {
                path: self.path.clone(),
                mode: self.mode,
            }),
            false => Ok(()),
        }
    }

    /// What stands in it.
    ///
    /// # Errors
    /// The system's.
    pub fn read(mut self) -> Result<Vec<u8>, Distrust> {
        let mut bytes = Vec::new();
        match self.file.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(unreadable(&self.path, &e)),
        }
    }
}

/// What [`Believed::open`] and [`Believed::private`] have against a file, each by itself.
pub fn doubts(path: &Path) -> Vec<Distrust> {
    match Believed::or_not(path) {
        Ok((file, doubt)) => doubt.into_iter().chain(file.private().err()).collect(),
        Err(e) => vec![e],
    }
}

fn look(path: &Path) -> Result<Metadata, Distrust> {
    fs::metadata(path).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, e: &io::Error) -> Distrust {
    Distrust::Unreadable {
        path: path.to_owned(),
        why: e.to_string(),
    }
}

fn belongs_to_root(path: &Path, meta: &Metadata) -> Result<(), Distrust> {
    if meta.uid() != 0 {
        return Err(Distrust::Owner {
            path: path.to_owned(),
            uid: meta.uid(),
        });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Distrust::Writable {
            path: path.to_owned(),
            mode: meta.mode() & 0o7777,
        });
    }
    Ok(())
}

/// Puts `text` in place of `path`'s content so that at any moment the one or the other stands
/// there whole, also after a loss of power. Mode and owner of a file that was there are kept; a
/// new one gets mode 0600.
///
/// # Errors
/// The system's; the old content stands then.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let before = fs::metadata(path).ok();
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        if let Some(before) = before {
            chown(&new, Some(before.uid()), Some(before.gid()))?;
            file.set_permissions(Permissions::from_mode(before.mode() & 0o7777))?;
        }
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        match path.parent().filter(|p| !p.as_os_str().is_empty()) {
            Some(directory) => fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Whether it is the disk that refuses: full, read-only or broken. That passes or is mended, and
/// what is guarded must be guarded until then.
pub fn is_storage(e: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(e.kind(), StorageFull | ReadOnlyFilesystem | QuotaExceeded)
        || e.raw_os_error() == Some(nix::libc::EIO)
}

/// An empty directory that root owns and nobody can write: the listener's root.
///
/// # Errors
/// The system's.
pub fn empty_directory(path: &Path) -> io::Result<()> {
    const MODE: u32 = 0o555;
    match fs::create_dir(path) {
        Err(e) if !path.is_dir() => return Err(e),
        _ => {}
    }
    match fs::symlink_metadata(path)? {
        meta if meta.is_dir() && meta.mode() & 0o7777 == MODE => Ok(()),
        _ => fs::set_permissions(path, Permissions::from_mode(MODE)),
    }
}

/// Makes a directory that only root can use, or checks that the one that stands there is so.
///
/// # Errors
/// The system's, or what is wrong with the one that is there.
pub fn private_directory(path: &Path) -> Result<(), Distrust> {
    if !path.exists() {
        fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
            .map_err(|e| unreadable(path, &e))?;
    }
    belongs_to_root(path, &look(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn trusted(path: &Path, secret: bool) -> Result<(), Distrust> {
        let file = Believed::open(path)?;
        match secret {
            true => file.private(),
            false => Ok(()),
        }
    }

    #[test]
    fn says_what_is_wrong_and_the_command_that_mends_it() {
        if !root() {
            return; // ownership by root cannot be made without it
        }
        let top = tempfile::tempdir().unwrap();
        fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
        let file = fs::canonicalize(top.path()).unwrap().join("postern.toml");
        let mode = |m| fs::set_permissions(&file, Permissions::from_mode(m)).unwrap();
        fs::write(&file, "x").unwrap();

        mode(0o600);
        assert_eq!(trusted(&file, true), Ok(()));
        mode(0o644);
        assert_eq!(trusted(&file, false), Ok(()));
        let said = trusted(&file, true).unwrap_err().to_string();
        assert!(
            said.ends_with(&format!("chmod go-r {}", file.display())),
            "{said}"
        );
        mode(0o620);
        assert!(matches!(
            trusted(&file, false),
            Err(Distrust::Writable { mode: 0o620, .. })
        ));

        mode(0o600);
        fs::set_permissions(top.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(
            trusted(&file, false),
            Err(Distrust::Writable { mode: 0o1777, .. })
        ));
        fs::set_permissions(top.path(), Permissions::from_mode(0o700)).unwrap();
        mode(0o644);
        assert_eq!(trusted(&file, true), Ok(()), "others cannot get there");

        fs::set_permissions(top.path(), Permissions::from_mode(0o755)).unwrap();
        chown(&file, Some(65534), None).unwrap();
        let both = doubts(&file);
        assert!(
            matches!(
                both[..],
                [Distrust::Owner { .. }, Distrust::Readable { .. }]
            ),
            "{both:?}"
        );
        assert!(matches!(
            trusted(&file, false),
            Err(Distrust::Owner { uid: 65534, .. })
        ));
        assert!(matches!(
            trusted(&top.path().join("none"), false),
            Err(Distrust::Unreadable { .. })
        ));
    }

    #[test]
    fn replacing_keeps_the_mode_and_leaves_no_temporary() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("list");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(top.path()).unwrap().count(), 1);

        let gone = top.path().join("gone").join("list");
        assert!(replace(&gone, b"new").is_err());
    }
}
