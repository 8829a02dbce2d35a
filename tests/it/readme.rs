//! What people read: every link leads somewhere, and the first page is short.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Above this nobody new reads it to the end.
const LONGEST: usize = 200;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let folders = ["", "actors", "config", "tests", "tests/lxd", "tests/openstack", "tests/queue"];
    folders.iter().map(|folder| root().join(folder).join("README.md")).collect()
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let link = link.0;
            if link.starts_with("https://") {
                continue;
            }
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let there =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = there.exists()
                && (part.is_empty() || anchors(&there).iter().any(|anchor| anchor == part));
            if !found {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_first_page_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(
        lines <= LONGEST,
        "README.md has {lines} lines; what is not for who comes new belongs \
        to config/, tests/ or actors/README.md"
    );
}

#[test]
fn a_heading_has_the_anchor_that_github_gives_it() {
    assert_eq!(
        anchor("Static (`demand = [\"static\"]`, the default)"),
        "static-demand--static-the-default"
    );
}
