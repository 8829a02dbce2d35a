//! What was learnt of how fast GitHub may be asked, kept over a restart: whoever starts anew a minute
//! after a refusal would be refused again.
//!
//! A small JSON file in the state folder, replaced as a whole. It may be some seconds old, and nothing
//! depends on it: whoever knows less learns it again.

use std::sync::{Mutex, PoisonError};

use crate::{github::Lessons, state::StateFolder};

const FILE: &str = "paces.json";

/// The lessons as they were last written, and the file that keeps them.
#[derive(Debug)]
pub(super) struct Paces {
    folder: StateFolder,
    written: Mutex<Lessons>,
}

impl Paces {
    /// Reads what an earlier daemon kept in `folder`. A file that cannot be understood is moved aside.
    ///
    /// # Errors
    /// Where the file cannot be read or moved.
    pub(super) fn open(folder: &StateFolder) -> Result<Self, String> {
        let costs = "how fast GitHub may be asked is learnt again";
        let written = super::kept::read(folder, FILE, costs, |text| {
            serde_json::from_str(text).map_err(|error| error.to_string())
        })?;
        Ok(Self { folder: folder.clone(), written: Mutex::new(written) })
    }

    /// What was read, or last written.
    pub(super) fn lessons(&self) -> Lessons {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes down what is news. What the disk refuses is a trouble of the folder, and is written with
    /// the next call.
    pub(super) fn keep(&self, lessons: Lessons) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = self.folder.troubles().of(&super::kept::named(&self.folder, FILE)).is_some();
        if refused || *written != lessons {
            // Its trouble is begun and ended there.
            let _refused = super::kept::write(&self.folder, FILE, &lessons);
            *written = lessons;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use http::Method;

    use super::*;
    use crate::github::{
        budget::pace::{Lesson, Limit, Proof},
        route::Endpoint,
    };

    fn lessons(most: u32) -> Lessons {
        let at = "2026-11-01T00:00:00Z".parse().unwrap();
        let limit = Some(Limit { most, taken: Some(30), refused: at, changed: at });
        let known = Lesson { limit, proof: Some(Proof { calls: 7, at }) };
        let seldom = Endpoint::of(&Method::DELETE, "/orgs/octo-org/actions/runners/7");
        let endpoints = BTreeMap::from([
            (Endpoint::launch(), known),
            (seldom, Lesson { proof: None, ..known }),
        ]);
        Lessons { of: "https://api.github.com/".to_owned(), endpoints }
    }

    #[test]
    fn what_was_learnt_of_the_paces_outlives_the_daemon() {
        let place = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        let first = Paces::open(&folder).unwrap();
        assert_eq!(first.lessons(), Lessons::default());
        first.keep(lessons(26));
        first.keep(lessons(27));
        assert_eq!(Paces::open(&folder).unwrap().lessons(), lessons(27));
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_said_and_learning_begins_anew() {
        let place = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(place.path()).unwrap();
        std::fs::write(folder.file(FILE), r#"{"of": 7"#).unwrap();
        let paces = Paces::open(&folder).unwrap();
        assert_eq!(paces.lessons(), Lessons::default());
        let (_, note) = folder.troubles().notes().pop().unwrap();
        assert!(note.contains("paces.json.damaged-"), "{note}");
        paces.keep(lessons(26));
        assert_eq!(Paces::open(&folder).unwrap().lessons(), lessons(26));
    }
}
