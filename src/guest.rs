//! The guest: what runs inside a VM.
//!
//! What for: a VM that knows nothing becomes a runner, takes one job, says what happens to it, and
//! powers off. [`Guest`] renders the user data that does this, for Ubuntu 22.04, 24.04 and 26.04 and
//! Debian 12 and 13, on x64 and arm64. [`Settings`] is its typed input, a pool's own.
//!
//! Rules:
//!
//! - **Constant files and one data file.** The user data writes the same files for every runner (a
//!   Python program, two job hooks, a unit) and `/etc/runner-fleet/guest.json`, which holds all that
//!   is foreign. It comes as base64 and is read by a JSON parser; nothing foreign is ever pasted into
//!   shell, Python or YAML, so there is nothing to quote. The cloud-config itself is JSON, YAML's
//!   subset.
//! - **Secrets are root's.** The data file is 0600, is removed once read, and what cloud-init keeps
//!   of the user data is closed to everybody else. The JIT config is the only secret in it besides the
//!   guest's own token, and useless after its first use. It enters the runner application by its
//!   environment: every user of a machine may read a command line.
//! - **The machine powers off when the runner ends, whatever the reason.** The unit does it, so that
//!   a guest that crashes or is killed ends its machine as well.
//! - **A job waits for nobody.** A hook is one datagram; the daemon may be away for the whole life of
//!   a runner, and the job notices nothing.
//!
//! The program needs Python 3.9, of which every image with cloud-init has a newer one, and nothing
//! else. Refused: a static binary (a download at every boot, one more thing to build for each
//! architecture), and shell (it has no JSON, no long poll beside a wait, and no way to say who may
//! see what). The refused alternative to one data file is a template in the program's text: it is
//! what every peer does, and what makes a label with a quote in it a root shell.
//!
//! The runner application is taken from the image, from a mirror, or from GitHub's downloads list;
//! its own dependencies (`bin/installdependencies.sh`) are the image's matter.

mod settings;
mod user_data;

pub use settings::{Application, Architecture, Download, Home, Settings};
pub use user_data::{Guest, data_in, jit_config_in};
