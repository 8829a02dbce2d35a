//! YAML as a tree that keeps what a person wrote: every scalar's text, every key's line.
//!
//! A password `12345e67` is no number here and a project id `00012` keeps its zeros: what a scalar
//! means is for whoever reads it. Of YAML 1.1 this takes what the files of OpenStack's tools use:
//! anchors, aliases, and the merge key `<<` with the rules of PyYAML, which openstacksdk reads with
//! (own keys first; of several merged mappings the first that has the key).
//!
//! No fault shows a value: these files hold passwords.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// Nodes of one file, those that aliases repeat included: a few lines of aliases of aliases make more
/// than any memory holds.
const NODES_MAX: usize = 50_000;
/// Bytes of a text that count as one node more where an alias repeats it.
const TEXT_STEP: usize = 64;
/// Mappings and lists within one another.
const DEPTH_MAX: usize = 50;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The file, as a person named it.
    pub file: Arc<str>,
    /// Its line, from 1; `None` for what is in no file.
    pub line: Option<usize>,
}

/// One value with its place. No `Debug`: it may be a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub at: Place,
    pub what: What,
}

/// What a value is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar, as it was written.
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping in the order of its file.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Map(pub Vec<Entry>);

/// One key of a mapping with its value.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key stands.
    pub at: Place,
    pub value: Node,
}

impl Map {
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }

    /// Puts an entry in the place of one with its key, or at the end.
    pub(super) fn put(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|own| own.key == entry.key) {
            Some(own) => *own = entry,
            None => self.0.push(entry),
        }
    }

    /// Lays `other` over this one, mapping by mapping.
    pub(super) fn lay_over(&mut self, other: &Self) {
        for entry in &other.0 {
            let own = self.0.iter_mut().find(|own| own.key == entry.key);
            match (own, &entry.value.what) {
                (
                    Some(Entry { value: Node { what: What::Map(own), .. }, .. }),
                    What::Map(extra),
                ) => {
                    own.lay_over(extra);
                }
                (Some(own), _) => *own = entry.clone(),
                (None, _) => self.0.push(entry.clone()),
            }
        }
    }
}

impl Node {
    pub(super) fn map(&self) -> Option<&Map> {
        match &self.what {
            What::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The text of a scalar that says something.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.what {
            What::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

/// Reads one document. An empty one is [`What::Null`].
///
/// # Errors
/// Everything that is wrong with the text, each with its line.
pub(super) fn read(file: &str, text: &str) -> Result<Node, Vec<String>> {
    let file: Arc<str> = file.into();
    let text = text.trim_start_matches('\u{feff}');
    let parser = Parser::new_from_str(text);
    let mut reader = Reader {
        parser,
        file: file.clone(),
        anchors: HashMap::new(),
        nodes: 0,
        faults: Vec::new(),
    };
    let root = match reader.document() {
        Ok(root) => root,
        Err(stop) => {
            // Whether the rest is YAML is not known, and where it is none, what looked like keys before may be
            // anything, a password too.
            reader.faults = vec![stop];
            None
        }
    };
    let nothing = Node { at: Place { file, line: None }, what: What::Null };
    if reader.faults.is_empty() { Ok(root.unwrap_or(nothing)) } else { Err(reader.faults) }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    file: Arc<str>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    /// What is wrong and hinders no further reading.
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    fn fault(&self, line: usize, what: &str) -> String {
        format!("{}: line {line}: {what}", self.file)
    }

    fn place(&self, span: Span) -> Place {
        Place { file: self.file.clone(), line: Some(span.start.line()) }
    }

    fn event(&mut self) -> Result<(Event<'a>, Span), String> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = *error.marker();
                Err(format!(
                    "{}: is not YAML (line {}, column {}): {}",
                    self.file,
                    at.line(),
                    at.col() + 1,
                    error.info()
                ))
            }
            None => Err(format!("{}: is not YAML: it ends too early", self.file)),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, String> {
        let mut root = None;
        loop {
            let (event, span) = self.event()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    let what = "a second document begins here; one is read";
                    return Err(self.fault(span.start.line(), what));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => root = Some(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, String> {
        let line = span.start.line();
        self.count(1, line)?;
        self.check_depth(depth, line)?;
        let at = self.place(span);
        let (anchor, what) = match event {
            Event::Alias(id) => {
                // Unknown to the parser's own table is an error of its own; this one is not done yet.
                let Some(known) = self.anchors.get(&id).cloned() else {
                    return Err(self.fault(line, "an alias stands within what it names"));
                };
                let (cost, deep) = size(&known);
                self.count(cost, line)?;
                self.check_depth(depth + deep, line)?;
                return Ok(Node::clone(&known));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = self.tag(tag.as_deref(), line);
                let null = matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let plain = style == ScalarStyle::Plain && !tagged;
                let what = if null && plain { What::Null } else { What::Text(text.into_owned()) };
                (anchor, what)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), line);
                (anchor, What::List(self.list(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), line);
                (anchor, What::Map(self.mapping(depth)?))
            }
            _ => return Err(self.fault(line, "a value is missing")),
        };
        let node = Node { at, what };
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::new(node.clone()));
        }
        Ok(node)
    }

    /// Whether the scalar is a text by its tag. A tag that openstacksdk's reader does not know either
    /// (`!vault`) is a fault: what stands there is not what is meant.
    fn tag(&mut self, tag: Option<&saphyr_parser::Tag>, line: usize) -> bool {
        let Some(tag) = tag else { return false };
        let core = tag.is_yaml_core_schema() || (tag.handle.is_empty() && tag.suffix == "!");
        if !core {
            let what = "a tag of its own (`!…`), which nothing here knows how to read";
            self.faults.push(self.fault(line, what));
        }
        tag.suffix == "str" || tag.suffix == "!"
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            let what = format!("more than {NODES_MAX} values, those that aliases repeat included");
            return Err(self.fault(line, &what));
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize, line: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            let what = format!("more than {DEPTH_MAX} mappings and lists within one another");
            return Err(self.fault(line, &what));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, String> {
        let mut list = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if event == Event::SequenceEnd {
                return Ok(list);
            }
            list.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Map, String> {
        let mut own = Map::default();
        let mut merged: Vec<Map> = Vec::new();
        loop {
            let (event, span) = self.event()?;
            if event == Event::MappingEnd {
                break;
            }
            let line = span.start.line();
            let at = self.place(span);
            let merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.event()?;
            let value = self.node(event, span, depth + 1)?;
            if merge {
                self.merge(value, line, &mut merged);
                continue;
            }
            let What::Text(key) = key.what else {
                let what = "a key must be a word, and this one is empty, a list or a mapping";
                self.faults.push(self.fault(line, what));
                continue;
            };
            if let Some(first) = own.get(&key) {
                let first = first.at.line.unwrap_or_default();
                // A quote that was never closed makes one of all that comes, passwords too.
                let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
                let shown =
                    if key.chars().all(is_name) { format!("{key:?} ") } else { String::new() };
                let what = format!("the key {shown}stands twice, first in line {first}: keep one");
                self.faults.push(self.fault(line, &what));
                continue;
            }
            own.0.push(Entry { key, at, value });
        }
        for entry in merged.into_iter().flat_map(|map| map.0) {
            if own.get(&entry.key).is_none() {
                own.0.push(entry);
            }
        }
        Ok(own)
    }

    fn merge(&mut self, value: Node, line: usize, merged: &mut Vec<Map>) {
        let what = "`<<` merges a mapping or a list of mappings, and this is neither";
        match value.what {
            What::Map(map) => merged.push(map),
            What::List(nodes) => {
                for node in nodes {
                    match node.what {
                        What::Map(map) => merged.push(map),
                        _ => self.faults.push(self.fault(line, what)),
                    }
                }
            }
            What::Null | What::Text(_) => self.faults.push(self.fault(line, what)),
        }
    }
}

/// What it costs to repeat a node, in nodes; and how many mappings and lists stand within one another
/// in it.
fn size(node: &Node) -> (usize, usize) {
    let of_text = |text: &str| 1 + text.len() / TEXT_STEP;
    let add = |sum: (usize, usize), key: usize, value: &Node| {
        let (cost, deep) = size(value);
        (sum.0 + key + cost, sum.1.max(deep + 1))
    };
    match &node.what {
        What::Null => (1, 0),
        What::Text(text) => (of_text(text), 0),
        What::List(nodes) => nodes.iter().fold((1, 0), |sum, node| add(sum, 0, node)),
        What::Map(map) => {
            map.0.iter().fold((1, 0), |sum, one| add(sum, of_text(&one.key), &one.value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(root: &Node, path: &[&str]) -> Option<String> {
        let mut node = root;
        for key in path {
            node = &node.map()?.get(key)?.value;
        }
        node.text().map(str::to_owned)
    }

    fn good(text: &str) -> Node {
        read("f", text).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn faults(text: &str) -> String {
        read("f", text).err().unwrap_or_default().join("; ")
    }

    #[test]
    fn scalars_are_what_was_written() {
        let root = good("{a: 12345e67, b: 00012, c: yes, d: 'null', e: 0x10, f: !!str null, g: ~}");
        for (key, wanted) in [
            ("a", "12345e67"),
            ("b", "00012"),
            ("c", "yes"),
            ("d", "null"),
            ("e", "0x10"),
            ("f", "null"),
        ] {
            assert_eq!(text(&root, &[key]).as_deref(), Some(wanted), "{key}");
        }
        assert_eq!(text(&root, &["g"]), None);
    }

    #[test]
    fn merged_mappings_lose_to_own_keys_and_the_first_of_a_list_wins() {
        let root = good(
            "x: &x {a: x, b: x, c: x}\ny: &y {a: y, d: y}\nm: {<<: [*x, *y], b: own}\nn:\n  c: own\n  <<: *x\n",
        );
        let of = |path: &[&str]| text(&root, path).unwrap_or_default();
        assert_eq!([of(&["m", "a"]), of(&["m", "b"]), of(&["m", "d"])], ["x", "own", "y"]);
        assert_eq!([of(&["n", "a"]), of(&["n", "c"])], ["x", "own"]);
        assert!(faults("a: {<<: word}").contains("line 1: `<<` merges"));
    }

    #[test]
    fn a_key_that_stands_twice_is_named_with_both_lines() {
        let told = faults("a:\n  region: secret-one\n  b: 1\n  region: secret-two\n  b: 2\n");
        assert!(
            told.contains("f: line 4: the key \"region\" stands twice, first in line 2"),
            "{told}"
        );
        assert!(told.contains("line 5"), "all of them: {told}");
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        assert!(faults("a: [1, 2").contains("is not YAML (line 2"), "{}", faults("a: [1, 2"));
        assert!(faults("a: 1\n---\nb: 2\n").contains("second document"));
        assert!(faults("a: !vault |\n  secret\n").contains("line 1: a tag of its own"));
        assert!(faults("a: &a [*a]").contains("within what it names"));
        let broken = faults("C4n4ry: 1\nC4n4ry: 2\na: [1");
        assert!(broken.contains("is not YAML") && !broken.contains("C4n4ry"), "{broken}");
        let stopped = faults("C4n4ry: 1\nC4n4ry: 2\na: &a [*a]\nb: [1");
        assert!(
            stopped.contains("within what it names") && !stopped.contains("C4n4ry"),
            "{stopped}"
        );
        assert!(matches!(good("# nothing yet\n").what, What::Null));
        assert!(matches!(good("").what, What::Null));
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = format!("*a{}, ", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        assert!(faults(&bomb).contains("more than 50000 values"), "{}", faults(&bomb));
        assert!(!faults(&"[".repeat(100_000)).is_empty());
        assert!(faults(&"[".repeat(60)).contains("within one another"));
    }

    #[test]
    fn a_long_text_that_aliases_repeat_does_not_fill_the_memory() {
        let text = |aliases: usize| {
            format!("a: &a {}\nb: [{}]\n", "x".repeat(6400), "*a, ".repeat(aliases))
        };
        assert!(faults(&text(20_000)).contains("more than 50000 values"));
        assert!(good(&text(100)).map().is_some());
        let key = format!("a: &a {{{}: x}}\nb: [{}]\n", "x".repeat(640), "*a, ".repeat(10_000));
        assert!(faults(&key).contains("more than 50000 values"));
    }

    #[test]
    fn a_chain_of_aliases_is_no_deeper_than_what_is_written_out() {
        let chain = |links: usize| {
            let link = |n: usize| format!("a{n}: &a{n} [*a{}]\n", n - 1);
            (1..=links).fold("a0: &a0 [x]\n".to_owned(), |text, n| text + &link(n))
        };
        assert!(good(&chain(48)).map().is_some());
        let told = faults(&chain(60));
        assert!(told.contains("line 50: more than 50 mappings and lists"), "{told}");
    }
}
