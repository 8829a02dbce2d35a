//! The stand-in for the runner application, for guests that are real.
//!
//! The files beside this one run in a guest as GitHub's own would: same command line, same files, same
//! lines, same exit codes. They take their jobs from the fake GitHub over HTTP, and need Python 3 and
//! nothing else. They are held here, so that a fake GitHub can offer them for download and a demo needs
//! no image of its own.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};

use super::github::Offered;

/// The version that it claims to be.
pub const VERSION: &str = "2.336.0";

const FILES: [(&str, &str); 3] = [
    ("run.sh", include_str!("stand-in/run.sh")),
    ("bin/Runner.Listener", include_str!("stand-in/bin/Runner.Listener")),
    ("bin/Runner.Worker", include_str!("stand-in/bin/Runner.Worker")),
];

/// It as GitHub ships its own: an archive that unpacks into the folder that it is in.
///
/// # Errors
/// Where it cannot be packed.
pub fn archive() -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, text) in FILES {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    let mut packed = archive.into_inner()?;
    packed.flush()?;
    packed.finish()
}

/// It as a fake GitHub offers it, for every processor: it is no machine's code.
///
/// # Errors
/// As [`archive`].
pub fn offered() -> io::Result<Vec<Offered>> {
    let archive = archive()?;
    let one = |architecture| Offered::linux(architecture, VERSION, archive.clone());
    Ok(["x64", "arm64"].map(one).to_vec())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn the_archive_unpacks_into_an_application_that_tells_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let packed = archive().unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()))
            .unpack(folder.path())
            .unwrap();
        for (path, _) in FILES {
            let mode = folder.path().join(path).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{path} can be run");
        }
        let told =
            Command::new(folder.path().join("bin/Runner.Listener")).arg("--version").output();
        assert_eq!(String::from_utf8(told.unwrap().stdout).unwrap().trim(), VERSION);
    }
}
