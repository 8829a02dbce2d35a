//! A TOML document as sections that note every fault instead of stopping at the first.
//!
//! Each accessor answers with a usable value or a default and writes down what is wrong, so the
//! readers of the single sections stay a plain list of keys. The keys that were asked for are the
//! keys that are known: there is no second list to keep in step.

mod secret;
mod syntax;
mod unknown;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Display,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    duration::{format_duration, parse_duration},
    fault::Fault,
    file::{FileUse, Holds},
    hide::{hidden, may_be_secret},
    secret::{Env, SecretSource},
    size::{format_size, parse_size},
};

pub(super) use self::secret::SecretKeys;
use self::unknown::NO_INLINE_SECRET;

/// Characters of a value that a fault shows.
const SHOWN_MAX: usize = 62;

/// A document and what was found wrong with it.
pub(super) struct Reader<'a> {
    table: DeTable<'a>,
    line_starts: Vec<usize>,
    base: &'a Path,
    env: &'a Env,
    faults: RefCell<Vec<Fault>>,
    files: RefCell<Vec<FileUse>>,
    secrets: RefCell<Vec<SecretUse>>,
    warnings: RefCell<Vec<Fault>>,
}

/// A secret that is named: where, under which key, and where it lies.
pub(super) type SecretUse = (Option<usize>, String, SecretSource);

/// What was found in a document besides its meaning.
#[derive(Default)]
pub(super) struct Findings {
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
    pub files: Vec<FileUse>,
    pub secrets: Vec<SecretUse>,
}

impl<'a> Reader<'a> {
    /// The faults of the syntax, where there are any.
    pub fn new(text: &'a str, base: &'a Path, env: &'a Env) -> Result<Self, Vec<Fault>> {
        let line_starts: Vec<usize> =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(syntax::faults(&errors, &line_starts));
        }
        Ok(Self {
            table: table.into_inner(),
            line_starts,
            base,
            env,
            faults: RefCell::default(),
            files: RefCell::default(),
            secrets: RefCell::default(),
            warnings: RefCell::default(),
        })
    }

    pub fn root(&'a self) -> Section<'a> {
        Section {
            reader: self,
            path: String::new(),
            line: None,
            table: &self.table,
            known: RefCell::default(),
        }
    }

    pub fn into_findings(self) -> Findings {
        Findings {
            faults: self.faults.into_inner(),
            warnings: self.warnings.into_inner(),
            files: self.files.into_inner(),
            secrets: self.secrets.into_inner(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        line_at(&self.line_starts, offset)
    }

    fn note(&self, line: Option<usize>, key: String, what: impl Display) {
        self.faults.borrow_mut().push(Fault::new(line, &key, &what.to_string()));
    }
}

fn line_at(starts: &[usize], offset: usize) -> usize {
    starts.partition_point(|start| *start <= offset)
}

/// A value as a fault shows it: short, and what it is.
fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            // Hidden before it is cut: half of an address may not look like one.
            let text = hidden(&format!("{text:?}"));
            match text.char_indices().nth(SHOWN_MAX) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// One table of the document.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    line: Option<usize>,
    table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table.get(key)
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The line of a key's value, or of the section where the key is missing.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.table.get(key).map(|value| self.reader.line(value.span().start)).or(self.line)
    }

    /// Notes a fault at a key.
    pub fn fault(&self, key: &str, what: impl Display) {
        self.reader.note(self.line_of(key), self.full(key), what);
    }

    /// Notes what is allowed and unwise at a key.
    pub fn warn(&self, key: &str, what: impl Display) {
        let warning = Fault::new(self.line_of(key), &self.full(key), &what.to_string());
        self.reader.warnings.borrow_mut().push(warning);
    }

    /// Notes a fault of the section as a whole.
    pub fn fault_here(&self, what: impl Display) {
        self.reader.note(self.line, self.path.clone(), what);
    }

    fn wrong(&self, key: &str, value: &DeValue<'_>, allowed: impl Display) {
        self.fault(key, format_args!("{} is not allowed: {allowed}", show(value)));
    }

    /// Whether the key is given at all.
    pub fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// As [`Section::has`], but the key does not count as known by it.
    pub fn has_silently(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that a key is needed and not given.
    pub fn missing(&self, key: &'static str, what: impl Display) {
        self.fault(key, format_args!("is needed: {what}"));
    }

    /// Refuses keys that belong to another kind of thing than this section is.
    pub fn foreign(&self, keys: &[&'static str], whose: &str) {
        for key in keys.iter().filter(|key| self.has_silently(key)) {
            if self.has(key) {
                self.fault(key, format_args!("is a key of {whose}; remove it"));
            }
        }
    }

    /// Whatever text is there, without a word on it.
    /// A key's text, where it is one.
    pub fn text_of(&self, key: &str) -> Option<&'a str> {
        self.table.get(key).and_then(|value| value.get_ref().as_str())
    }

    /// A text that is not empty.
    pub fn text(&self, key: &'static str) -> Option<&'a str> {
        let value = self.value(key)?.get_ref();
        match value {
            DeValue::String(text) if !text.trim().is_empty() => Some(text),
            _ => {
                self.wrong(key, value, "a text in quotes that is not empty");
                None
            }
        }
    }

    /// As [`Section::text`], and it must be given.
    pub fn needed_text(&self, key: &'static str, what: &str) -> Option<&'a str> {
        if !self.has(key) {
            self.missing(key, what);
        }
        self.text(key)
    }

    /// A text that parses; the parser's own error says what is allowed. It must be given.
    pub fn needed<T: FromStr<Err: Display>>(&self, key: &'static str, what: &str) -> Option<T> {
        let text = self.needed_text(key, what)?;
        text.parse().map_err(|error| self.fault(key, error)).ok()
    }

    /// One of a few words.
    pub fn word<T: Clone>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?.get_ref();
        let found = words.iter().find(|(word, _)| value.as_str() == Some(*word));
        if found.is_none() {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.wrong(key, value, format_args!("it is one of {}", all.join(", ")));
        }
        found.map(|(_, meaning)| meaning.clone())
    }

    /// As [`Section::word`], for kinds whose clients a build may lack.
    pub fn kind<T: Clone>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let kind = self.word("kind", words)?;
        let word = self.text_of("kind").unwrap_or_default();
        if self.reader.env.lacks(word) {
            self.fault(
                "kind",
                format_args!(
                    "{word:?} is not in this runner-fleet, which was built without it: build it with \
                     the cargo feature {word:?}, which is a default one"
                ),
            );
        }
        Some(kind)
    }

    /// A whole number within bounds.
    pub fn number(&self, key: &'static str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?.get_ref();
        let number = value
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| allowed.contains(number));
        if number.is_none() {
            let (low, high) = allowed.into_inner();
            if high == u64::MAX {
                self.wrong(key, value, format_args!("a whole number of at least {low}"));
            } else {
                self.wrong(key, value, format_args!("a whole number from {low} to {high}"));
            }
        }
        number
    }

    /// As [`Section::number`] for counts, with a default.
    pub fn count(&self, key: &'static str, default: u32, allowed: RangeInclusive<u32>) -> u32 {
        let (low, high) = allowed.into_inner();
        self.number(key, u64::from(low)..=u64::from(high))
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(default)
    }

    /// A number within bounds that may have a fraction.
    pub fn fraction(&self, key: &'static str, allowed: RangeInclusive<f64>) -> Option<f64> {
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            _ => "",
        };
        let number = text.parse::<f64>().ok().filter(|number| allowed.contains(number));
        if number.is_none() {
            let (low, high) = allowed.into_inner();
            self.wrong(key, value.get_ref(), format_args!("a number from {low} to {high}"));
        }
        number
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.value(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong(key, value.get_ref(), "true or false, without quotes");
            default
        })
    }

    /// A list of texts that are not empty.
    pub fn texts(&self, key: &'static str) -> Vec<String> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value.get_ref(), "a list of texts, such as [\"a\", \"b\"]");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for entry in list.iter() {
            match entry.get_ref().as_str().filter(|text| !text.trim().is_empty()) {
                Some(text) => texts.push(text.to_owned()),
                None => self.reader.note(
                    Some(self.reader.line(entry.span().start)),
                    self.full(key),
                    format_args!(
                        "{} is not allowed: texts in quotes that are not empty",
                        show(entry.get_ref())
                    ),
                ),
            }
        }
        texts
    }

    /// A table of texts, which may be empty. Its keys are whatever they are.
    pub fn text_table(&self, key: &'static str) -> BTreeMap<String, String> {
        let Some(section) = self.section(key) else { return BTreeMap::new() };
        let mut texts = BTreeMap::new();
        for (name, value) in section.table {
            match value.get_ref().as_str() {
                Some(text) => {
                    texts.insert(name.get_ref().to_string(), text.to_owned());
                }
                None => section.wrong(name.get_ref(), value.get_ref(), "a text in quotes"),
            }
        }
        texts
    }

    /// A duration between two bounds in seconds.
    pub fn duration(&self, key: &'static str, default: Duration, low: u64, high: u64) -> Duration {
        let Some(value) = self.value(key) else { return default };
        let parsed =
            value.get_ref().as_str().ok_or(None).and_then(|t| parse_duration(t).map_err(Some));
        match parsed {
            Ok(duration) if (low..=high).contains(&duration.as_secs()) => return duration,
            Ok(_) => {
                let bound = |seconds| format_duration(Duration::from_secs(seconds));
                let allowed = format!("a duration from {} to {}", bound(low), bound(high));
                self.wrong(key, value.get_ref(), allowed);
            }
            Err(Some(error)) => self.wrong(key, value.get_ref(), error),
            Err(None) => {
                self.wrong(key, value.get_ref(), super::duration::DurationError);
            }
        }
        default
    }

    /// A size in bytes between two bounds.
    pub fn size(&self, key: &'static str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?.get_ref();
        match value.as_str().map(parse_size) {
            Some(Ok(bytes)) if allowed.contains(&bytes) => Some(bytes),
            Some(Ok(_)) => {
                let (low, high) = allowed.into_inner();
                let allowed = format!("a size from {} to {}", format_size(low), format_size(high));
                self.wrong(key, value, allowed);
                None
            }
            Some(Err(error)) => {
                self.wrong(key, value, error);
                None
            }
            None => {
                self.wrong(key, value, super::size::SizeError);
                None
            }
        }
    }

    /// A path; a relative one is taken from the folder of the configuration.
    pub fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(|text| self.reader.base.join(text))
    }

    /// A path of a file that must be there and readable.
    pub fn file(&self, key: &'static str, secret: bool) -> Option<PathBuf> {
        if self.text_of(key).is_some_and(may_be_secret) {
            self.has(key);
            // The place is not shown: it is the secret.
            self.fault(key, NO_INLINE_SECRET);
            return None;
        }
        let path = self.path(key)?;
        self.note_file(key, path.clone(), secret, None);
        Some(path)
    }

    fn note_file(&self, key: &str, path: PathBuf, secret: bool, holds: Option<Holds>) {
        let (line, key) = (self.line_of(key), self.full(key));
        self.reader.files.borrow_mut().push(FileUse { line, key, path, secret, holds });
    }

    fn child(&self, path: String, value: &'a Spanned<DeValue<'a>>) -> Option<Section<'a>> {
        let table = value.get_ref().as_table()?;
        let line = Some(self.reader.line(value.span().start));
        Some(Section { reader: self.reader, path, line, table, known: RefCell::default() })
    }

    /// A table under this one.
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        let child = self.child(self.full(key), value);
        if child.is_none() {
            self.wrong(key, value.get_ref(), format_args!("it is a table, [{}]", self.full(key)));
        }
        child
    }

    /// Tables by name under this one: `[key.NAME]`.
    pub fn named(&self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let mut children = Vec::new();
        for (name, value) in section.table {
            match section.child(section.full(name.get_ref()), value) {
                Some(child) => children.push((name.get_ref().to_string(), child)),
                None => section.wrong(
                    name.get_ref(),
                    value.get_ref(),
                    format_args!("it is a table, [{key}.NAME]"),
                ),
            }
        }
        children
    }

    /// Tables in a row: `[[key]]`. Each goes by its `name` where it has one, else by its number.
    pub fn rows(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, value.get_ref(), format_args!("it is a table in a row, [[{key}]]"));
            return Vec::new();
        };
        let mut rows = Vec::new();
        for (number, entry) in list.iter().enumerate() {
            let name = entry.get_ref().get("name").and_then(|name| name.get_ref().as_str());
            let label = name.map_or_else(|| (number + 1).to_string(), str::to_owned);
            match self.child(format!("{key}[{label}]"), entry) {
                Some(row) => rows.push(row),
                None => self.wrong(
                    key,
                    entry.get_ref(),
                    format_args!("it is a table in a row, [[{key}]]"),
                ),
            }
        }
        rows
    }
}
