//! Real file systems that fill up, lose their device or turn read-only. Only root may mount them.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A small file system of its own.
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount one, nor root in this container; then that is said.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "runner-fleet-test"])
            .arg(at)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).into_owned();
            let root = fs::metadata("/proc/self").unwrap().uid() == 0;
            let forbidden = why.contains("denied") || why.contains("not permitted");
            assert!(!root || forbidden, "root could not mount a file system: {why}");
            println!("skipped, because no file system may be mounted here: {}", why.trim());
            return None;
        }
        Some(Self(at.to_owned()))
    }

    pub fn fill(&self) {
        let mut file = File::create(self.0.join("fill")).unwrap();
        for block in [4096, 256, 1] {
            while file.write_all(&vec![0; block]).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.0.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(done.is_ok_and(|done| done.success()), "umount {}", self.0.display());
    }
}

/// An ext4 on a thin device: a loop over a sparse file that grows on a small file system. Where that is
/// full the device fails what needs more of it, though the ext4 itself has room.
pub struct ThinDisk {
    at: PathBuf,
    thin: SmallDisk,
    /// What the kernel does at a fault of the ext4.
    errors: &'static str,
    loops: Vec<String>,
    mounts: usize,
}

/// Runs a command that may not be possible here; its output, or why not.
fn may(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{program}: {}", text(&output.stderr))),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl ThinDisk {
    /// `None` where this machine gives no loop device or no ext4; then that is said. What it lies on is
    /// mounted at `beside`. `errors`: what the kernel does at a fault, as in ext4(5).
    pub fn mount(at: &Path, beside: &Path, errors: &'static str) -> Option<Self> {
        let thin = SmallDisk::mount(beside, "24m")?;
        fs::create_dir_all(at).unwrap();
        let mut disk = Self { at: at.to_owned(), thin, errors, loops: Vec::new(), mounts: 0 };
        let image = disk.thin.0.join("image");
        let image = text(&image);
        let made = may("truncate", &["-s", "16M", image])
            // Without a journal: a failed write is told to whoever wrote, and costs nobody else.
            .and_then(|_| may("mkfs.ext4", &["-q", "-O", "^has_journal", image]))
            .and_then(|_| disk.attach(image, at));
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                println!("skipped, because there is no ext4 on a loop device here: {why}");
                None
            }
        }
    }

    fn attach(&mut self, image: &str, at: &Path) -> Result<(), String> {
        let device = may("losetup", &["--find", "--show", image])?;
        self.loops.push(device.clone());
        let options = format!("discard,errors={}", self.errors);
        may("mount", &["-t", "ext4", "-o", &options, &device, text(at)])?;
        self.mounts += 1;
        Ok(())
    }

    /// From now on what needs a new block of the device fails.
    pub fn fail(&self) {
        // What the ext4 has freed is no longer there to be written over.
        may("fstrim", &[text(&self.at)]).unwrap();
        self.thin.fill();
    }

    /// The device can be written again.
    pub fn work(&self) {
        self.thin.free();
    }

    /// The kernel finds a fault in the ext4. With `remount-ro` it is read-only from now on, files that are
    /// open included.
    pub fn turn_read_only(&self) {
        let device = self.loops.last().unwrap().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    /// What is on it is copied, checked and mounted in the place of the old one.
    pub fn mend(&mut self) {
        let (image, copy) = (self.thin.0.join("image"), self.thin.0.join("copy"));
        may("cp", &["--sparse=always", text(&image), text(&copy)]).unwrap();
        // 1 = faults were found and mended.
        let checked = Command::new("e2fsck").args(["-f", "-y"]).arg(&copy).output().unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        let at = self.at.clone();
        // Over the old one: at no moment is there a folder without a file system.
        self.attach(text(&copy), &at).unwrap();
    }
}

impl Drop for ThinDisk {
    fn drop(&mut self) {
        for _ in 0..self.mounts {
            let _unmounted = may("umount", &["--lazy", text(&self.at)]);
        }
        for device in &self.loops {
            let _detached = may("losetup", &["--detach", device]);
        }
    }
}
