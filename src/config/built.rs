//! What this runner-fleet was built with: clients that cargo features leave out.

/// The kinds whose clients are big enough to be left out, each called as its cargo feature.
const CLIENTS: [(&str, bool); 3] = [
    ("amqp", cfg!(feature = "amqp")),
    ("mongodb", cfg!(feature = "mongodb")),
    ("openstack", cfg!(feature = "openstack")),
];

/// The clients that are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lacking(Vec<&'static str>);

impl Default for Lacking {
    fn default() -> Self {
        Self(CLIENTS.into_iter().filter(|(_, built)| !built).map(|(kind, _)| kind).collect())
    }
}

impl Lacking {
    pub fn nothing() -> Self {
        Self(Vec::new())
    }

    pub fn only(kind: &'static str) -> Self {
        Self(vec![kind])
    }

    pub fn has(&self, kind: &str) -> bool {
        self.0.contains(&kind)
    }
}
