//! The journal's file: appended to, cut at a size, opened anew when it was moved away.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Owner writes, group reads: it names repositories and workflows.
const MODE: u32 = 0o640;

/// Bytes that go out in one write, in whole lines. Several daemons may append to one file, and one
/// write to a file opened for appending is never torn by another's.
const WRITE_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct JournalFile {
    path: PathBuf,
    max_bytes: u64,
    open: Option<File>,
    /// Whether the last write ended within a line: the next begins a new one.
    torn: bool,
}

impl JournalFile {
    pub fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self { path, max_bytes, open: None, torn: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets the open file, so that the next write opens the path.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Writes lines from the front of `lines` and takes off what is written, until none is left.
    pub fn write(&mut self, lines: &mut VecDeque<String>) -> io::Result<()> {
        while !lines.is_empty() {
            // The first byte ends a torn line, where the file turns out to have one.
            let mut chunk = vec![b'\n'];
            let mut ends = Vec::new();
            for line in lines.iter() {
                if !ends.is_empty() && chunk.len() + line.len() >= WRITE_MAX {
                    break;
                }
                chunk.extend_from_slice(line.as_bytes());
                chunk.push(b'\n');
                ends.push(chunk.len());
            }
            self.make_room_for(chunk.len())?;
            let mut file = self.open.as_ref().ok_or(io::ErrorKind::NotFound)?;
            let mut written = usize::from(!self.torn);
            let unwritten = written;
            let result = loop {
                match file.write(&chunk[written..]) {
                    Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                    Ok(bytes) => written += bytes,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
                if written == chunk.len() {
                    break Ok(());
                }
            };
            let whole = ends.iter().take_while(|end| **end <= written).count();
            lines.drain(..whole);
            if written > unwritten {
                self.torn = chunk[written - 1] != b'\n';
            }
            if let Err(error) = result {
                self.close();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Opens the file where it is not open, or no longer at its path, and rotates it where it has no
    /// room for so many bytes.
    fn make_room_for(&mut self, bytes: usize) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|file| !self.is_at_path(file)) {
            self.close();
        }
        if self.open.is_none() {
            self.open = Some(self.open_path()?);
        }
        let size =
            self.open.as_ref().map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()))?;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if size > 0 && size.saturating_add(bytes) > self.max_bytes {
            self.rotate()?;
        }
        Ok(())
    }

    fn open_path(&mut self) -> io::Result<File> {
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path)?;
        self.torn = match file.metadata()?.len() {
            0 => false,
            // A process that was killed in mid-write must not cost the first line of the next one.
            length => last_byte(&self.path, length).unwrap_or(b'\n') != b'\n',
        };
        Ok(file)
    }

    fn is_at_path(&self, file: &File) -> bool {
        match (file.metadata(), fs::metadata(&self.path)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// The file becomes `.1`, and a new one is begun.
    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        if let Err(error) = fs::rename(&self.path, &old) {
            // A folder that is not ours. A full disk is worse than the loss of lines that were
            // there to be collected for as long as it took to write this many.
            tracing::warn!(path = %self.path.display(), %error, "journal emptied: it cannot be renamed");
            if let Some(file) = &self.open {
                file.set_len(0)?;
            }
            self.torn = false;
            return Ok(());
        }
        self.open = Some(self.open_path()?);
        Ok(())
    }
}

/// The last byte of a file; `None` where it cannot be read.
fn last_byte(path: &Path, length: u64) -> Option<u8> {
    let mut byte = [0];
    File::open(path).ok()?.read_exact_at(&mut byte, length.checked_sub(1)?).ok()?;
    Some(byte[0])
}
