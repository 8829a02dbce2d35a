//! The Unix socket's file: made whole or not at all, never taken from a living daemon.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Owner and group may order the fleet about; nobody else may connect.
const MODE: u32 = 0o660;

/// The socket's file, removed at the end if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "socket file not removed");
        }
    }
}

/// Listens on `path`. A socket on which nobody answers is the rest of a dead daemon and is replaced.
///
/// # Errors
/// `AddrInUse` where a daemon answers there; `AlreadyExists` where something else than a socket is
/// there; otherwise what the system says, with the path.
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let told = |error: io::Error| {
        io::Error::new(error.kind(), format!("the socket {}: {error}", path.display()))
    };
    refuse_living(path)?;
    // Made beside and moved into place: never there with the umask's mode, never half replaced.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if let Err(error) = fs::remove_file(&beside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(told(error));
    }
    let listener = UnixListener::bind(&beside).map_err(told)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(MODE)).map_err(told)?;
    let inode = fs::symlink_metadata(&beside).map_err(told)?.ino();
    fs::rename(&beside, path).map_err(told)?;
    Ok((listener, SocketFile { path: path.to_path_buf(), inode }))
}

fn refuse_living(path: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let name = path.display();
    if !meta.file_type().is_socket() {
        let why = format!("{name} is there and is no socket; move it away or choose another path");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Anything but a refusal may be a daemon that is too busy to answer.
        Ok(_) | Err(_) => {
            let why =
                format!("another daemon answers at {name}; stop it, or choose another socket");
            Err(io::Error::new(io::ErrorKind::AddrInUse, why))
        }
    }
}
