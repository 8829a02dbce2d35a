//! The walls of the house, as far as text can keep them: the brain is pure, files stay readable, log
//! lines look alike.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files of the brain that may name actors, async code and clocks.
const SHELLS: &[&str] = &[
    "port.rs",
    "port/clock.rs",
    "port/grounds.rs",
    "fleet.rs",
    "guard.rs",
    "hands.rs",
    "sweep/task.rs",
];
/// Above this a file is asked whether it holds one concept; above the next it is too long.
const LONG: usize = 500;
const TOO_LONG: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        // What a build of the fuzz targets leaves is nobody's source.
        if path.is_dir() && !path.ends_with("target") {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    ["src", "tests", "benches", "actors/src", "actors/tests"]
        .iter()
        .flat_map(|folder| rust_files(&root().join(folder)))
        .collect()
}

/// Lines of code with their numbers, comments left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_shell(path: &Path) -> bool {
    // A shell's folder is a shell's too.
    let inside = |part: &str| path.components().any(|folder| folder.as_os_str() == part);
    path.ends_with("actor.rs")
        || inside("actor")
        || inside("fleet")
        || SHELLS.iter().any(|shell| path.ends_with(shell))
}

#[test]
fn the_brain_knows_neither_actors_nor_clocks() {
    let forbidden = [
        "actix",
        "async ",
        "async_trait",
        ".await",
        "tokio",
        "Utc::now",
        "Instant::now",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::net::Tcp",
    ];
    let mut broken = Vec::new();
    let mut pure = rust_files(&root().join("actors/src"));
    // Decisions of the daemon's own that are held to the same.
    let scale_set = root().join("src/demand/scale_set");
    pure.push(scale_set.join("listener.rs"));
    pure.extend(rust_files(&scale_set.join("listener")));
    for path in pure.iter().filter(|path| !is_shell(path)) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in code(&text) {
            broken.extend(
                forbidden
                    .iter()
                    .filter(|word| line.contains(*word))
                    .map(|word| format!("{}:{number}: {word}", path.display())),
            );
        }
    }
    assert!(broken.is_empty(), "not for a pure file:\n{}", broken.join("\n"));
}

#[test]
fn the_brain_speaks_no_http() {
    let manifest = fs::read_to_string(root().join("actors/Cargo.toml")).unwrap();
    let dependencies = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let http = ["reqwest", "hyper", "axum", "octocrab", "http", "tower"];
    let found: Vec<_> = dependencies.filter(|name| http.contains(name)).collect();
    assert!(found.is_empty(), "{found:?} belong to the daemon's adapters");
}

#[test]
fn every_file_can_be_read_in_one_sitting() {
    let mut too_long = Vec::new();
    for path in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > LONG {
            println!("{} has {lines} lines: does it hold one concept?", path.display());
        }
        if lines > TOO_LONG {
            too_long.push(format!("{} has {lines} lines", path.display()));
        }
    }
    assert!(too_long.is_empty(), "more than {TOO_LONG} lines:\n{}", too_long.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    // Put together, so that this file does not find itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["unreach", "able!"],
        ["to", "do!"],
        ["unimple", "mented!"],
    ]
    .map(|halves| halves.concat());
    let mut found = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            if words.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_file_of_tests_is_left_out() {
    let mut left_out = Vec::new();
    for binary in ["it", "lxd", "openstack", "queue", "support"] {
        let folder = root().join("tests").join(binary);
        let main = if binary == "support" { "mod.rs" } else { "main.rs" };
        let modules = fs::read_to_string(folder.join(main)).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let rust = path.extension().is_some_and(|extension| extension == "rs");
            if rust && !path.ends_with(main) && !modules.contains(&format!("mod {name};")) {
                left_out.push(path.display().to_string());
            }
        }
    }
    assert!(left_out.is_empty(), "no mod line for {}", left_out.join(", "));
}

/// The message of a `tracing` call: the last text in it, where fields come first.
fn message(call: &str) -> Option<&str> {
    let end = call.find(");")?;
    let text = call[..end].rsplit_once(", \"").map(|(_, text)| text);
    let text = text.or_else(|| call[..end].trim_start().strip_prefix('"'))?;
    text.split('"').next()
}

#[test]
fn log_lines_are_lower_case() {
    let mut found = Vec::new();
    for path in
        rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("actors/src")))
    {
        let text = fs::read_to_string(&path).unwrap();
        for level in ["trace", "debug", "info", "warn", "error"] {
            for (at, call) in text.match_indices(&format!("{level}!(")) {
                let rest = text[at + call.len()..].replace(",\n", ", ");
                let words = rest.split_whitespace().collect::<Vec<_>>().join(" ");
                let Some(message) = message(&words) else { continue };
                // A name such as GitHub may begin a line; a sentence may not.
                let first = message.split(' ').next().unwrap_or_default();
                let sentence = first.chars().next().is_some_and(char::is_uppercase)
                    && first.chars().skip(1).all(char::is_lowercase);
                if sentence {
                    found.push(format!("{}: {message:?}", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "log lines begin in lower case:\n{}", found.join("\n"));
}

#[test]
fn the_message_of_a_log_call_is_found() {
    assert_eq!(message("\"a fleet starts\");"), Some("a fleet starts"));
    assert_eq!(message("pool = %name, count, \"planned\"); x(\"No\");"), Some("planned"));
    assert_eq!(message("?error);"), None);
}
