//! Keys that nobody asked for: misspelt ones, and secrets where none may be.

use super::Section;

/// Keys that hold a secret in other programs' files. Their values are never shown.
const INLINE_SECRETS: [&str; 8] =
    ["token", "pat", "private_key", "password", "secret", "auth", "credentials", "client_secret"];

pub(super) const NO_INLINE_SECRET: &str = "a secret is not written here, because this file is read by people \
     and kept in backups; write it to a file of its own (mode 0640) and name that";

impl Section<'_> {
    /// Whether a secret itself is written here; then asking for it again elsewhere is noise.
    pub fn has_inline_secret(&self) -> bool {
        INLINE_SECRETS.iter().any(|key| self.table.contains_key(*key))
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        let known = self.known.borrow();
        for (key, value) in self.table {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let line = Some(self.reader.line(key.span().start));
            if INLINE_SECRETS.contains(&name) && value.get_ref().as_str().is_some() {
                let places: Vec<_> = known
                    .iter()
                    .filter(|key| {
                        key.ends_with("_file")
                            || key.ends_with("_env")
                            || key.ends_with("_credential")
                    })
                    .filter(|key| !key.starts_with("ca_"))
                    .copied()
                    .collect();
                let places = if places.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", places.join(", "))
                };
                self.reader.note(line, self.full(name), format_args!("{NO_INLINE_SECRET}{places}"));
                continue;
            }
            let nearest = known
                .iter()
                .map(|candidate| (strsim::damerau_levenshtein(candidate, name), candidate))
                .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
                .min_by_key(|(distance, _)| *distance);
            let hint = match nearest {
                Some((_, candidate)) => format!("did you mean {candidate:?}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.reader.note(line, self.full(name), format_args!("no such key; {hint}"));
        }
    }
}
