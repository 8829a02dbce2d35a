//! Weaves all mutants that `cargo mutants --list --json` tells of into one source tree, each behind
//! `crate::mutant::on(N)`, so that one compilation serves thousands of verdicts.
//!
//! ```text
//! weave LIST TREE SKIPPED             rewrites the files of LIST in TREE, without the numbers in SKIPPED
//! weave --blame TREE SKIPPED          appends to SKIPPED the mutants at which the compiler's errors lie
//!                                     (its JSON messages on standard input)
//! ```
//!
//! `N` is a mutant's place in the list, from 1. Most of what cannot be behind a switch (a `||` between
//! `let`s, a default of a type that has none) does not compile as a mutant either, and is no mutant;
//! constants and functions that return an `impl Trait` do. All are skipped by their number and with the
//! compiler's words, for a reader to judge.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    io::{BufRead, Write},
    path::Path,
};

use proc_macro2::{LineColumn, Span};
use serde::Deserialize;
use syn::{
    Arm, BinOp, Block, Expr, ExprBinary, ReturnType, Stmt, Type, parse_quote, parse_str,
    spanned::Spanned,
    visit_mut::{self, VisitMut},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One mutant, as cargo-mutants lists it.
#[derive(Deserialize)]
struct Mutant {
    file: String,
    genre: String,
    replacement: String,
    span: Place,
}

#[derive(Deserialize)]
struct Place {
    start: Point,
}

#[derive(Deserialize)]
struct Point {
    line: usize,
    column: usize,
}

/// Kind of the mutant and where it begins: line, column.
type Key = (&'static str, usize, usize);

/// The mutants of one file that are still to be woven in.
struct Weaver {
    waiting: BTreeMap<Key, Vec<(usize, String)>>,
    /// What could not be read, with its reason.
    refused: Vec<(usize, String)>,
}

const GENRES: [&str; 6] =
    ["FnValue", "BinaryOperator", "UnaryOperator", "MatchArm", "MatchArmGuard", "StructField"];

impl Weaver {
    fn take(&mut self, genre: &'static str, at: Span) -> Vec<(usize, String)> {
        let LineColumn { line, column } = at.start();
        self.waiting.remove(&(genre, line, column + 1)).unwrap_or_default()
    }

    /// Reads a replacement; one that is no Rust is told of.
    fn read<T: syn::parse::Parse>(&mut self, number: usize, text: &str) -> Option<T> {
        match parse_str(text) {
            Ok(read) => Some(read),
            Err(error) => {
                self.refused.push((number, format!("{error}: {text}")));
                None
            }
        }
    }

    fn body(&mut self, output: &ReturnType, block: &mut Block) {
        let Some(first) = block.stmts.first().map(Spanned::span) else { return };
        let mut mutants = self.take("FnValue", first);
        if matches!(output, ReturnType::Type(_, kind) if matches!(**kind, Type::ImplTrait(_))) {
            let words = "its function returns a type of its own making";
            self.refused.extend(mutants.drain(..).map(|(number, _)| (number, words.to_owned())));
        }
        visit_mut::visit_block_mut(self, block);
        let mut switches: Vec<Stmt> = Vec::new();
        for (number, text) in mutants {
            if let Some(value) = self.read::<Expr>(number, &text) {
                switches.push(parse_quote!(if crate::mutant::on(#number) { return #value; }));
            }
        }
        block.stmts.splice(0..0, switches);
    }
}

/// Whether a `let` stands in a chain of `&&`, where no other expression may take its place.
fn binds(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(ExprBinary { left, op: BinOp::And(_), right, .. }) => {
            binds(left) || binds(right)
        }
        _ => false,
    }
}

impl VisitMut for Weaver {
    fn visit_item_fn_mut(&mut self, item: &mut syn::ItemFn) {
        self.body(&item.sig.output, &mut item.block);
    }

    fn visit_impl_item_fn_mut(&mut self, item: &mut syn::ImplItemFn) {
        self.body(&item.sig.output, &mut item.block);
    }

    fn visit_trait_item_fn_mut(&mut self, item: &mut syn::TraitItemFn) {
        if let Some(block) = &mut item.default {
            self.body(&item.sig.output, block);
        }
    }

    fn visit_arm_mut(&mut self, arm: &mut Arm) {
        let start = arm.attrs.first().map_or_else(|| arm.pat.span(), Spanned::span);
        let deleted = self.take("MatchArm", start);
        let guarded = match &arm.guard {
            Some((_, guard)) => self.take("MatchArmGuard", guard.span()),
            None => Vec::new(),
        };
        visit_mut::visit_arm_mut(self, arm);
        for (number, text) in guarded {
            let Some((_, guard)) = &mut arm.guard else { continue };
            **guard = match text.as_str() {
                "true" => parse_quote!((crate::mutant::on(#number) || #guard)),
                _ => parse_quote!((!crate::mutant::on(#number) && #guard)),
            };
        }
        for (number, _) in deleted {
            let stays: Expr = parse_quote!(!crate::mutant::on(#number));
            arm.guard = Some(match arm.guard.take() {
                Some((keyword, guard)) => (keyword, Box::new(parse_quote!(#stays && #guard))),
                None => (parse_quote!(if), Box::new(stays)),
            });
        }
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        let operator = match expr {
            Expr::Binary(binary) => self.take("BinaryOperator", binary.op.span()),
            Expr::Unary(unary) => self.take("UnaryOperator", unary.op.span()),
            _ => Vec::new(),
        };
        let mut fields = Vec::new();
        if let Expr::Struct(literal) = expr {
            for (place, field) in literal.fields.iter().enumerate() {
                let found = self.take("StructField", field.span());
                fields.extend(found.into_iter().map(|(number, _)| (number, place)));
            }
        }
        visit_mut::visit_expr_mut(self, expr);
        if binds(expr) && !operator.is_empty() {
            let words = "an operator between lets cannot be another".to_owned();
            self.refused.extend(operator.into_iter().map(|(number, _)| (number, words.clone())));
            return;
        }
        let original = expr.clone();
        for (number, text) in operator {
            let mutated: Expr = match &original {
                Expr::Binary(binary) => {
                    let Some(op) = self.read::<BinOp>(number, &text) else { continue };
                    Expr::Binary(ExprBinary { op, ..binary.clone() })
                }
                Expr::Unary(unary) => (*unary.expr).clone(),
                _ => continue,
            };
            *expr = parse_quote!((if crate::mutant::on(#number) { #mutated } else { #expr }));
        }
        for (number, place) in fields {
            let Expr::Struct(literal) = &original else { continue };
            let mut mutated = literal.clone();
            let kept = literal.fields.iter().enumerate().filter(|(at, _)| *at != place);
            mutated.fields = kept.map(|(_, field)| field.clone()).collect();
            if mutated.rest.is_some() && !mutated.fields.is_empty() {
                mutated.fields.push_punct(parse_quote!(,));
            }
            *expr = parse_quote!((if crate::mutant::on(#number) { #mutated } else { #expr }));
        }
    }
}

/// The switch itself, in the crate's root.
const SWITCH: &str = r#"
#[doc(hidden)]
pub mod mutant {
    pub fn on(number: usize) -> bool {
        static ON: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let read = || std::env::var("MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        *ON.get_or_init(read) == number
    }
}
"#;

fn weave(list: &[Mutant], tree: &Path, skipped: &Path) -> Result<()> {
    let told = fs::read_to_string(skipped).unwrap_or_default();
    let without: BTreeSet<usize> =
        told.lines().filter_map(|line| line.split('\t').next()?.parse().ok()).collect();
    let mut files: BTreeMap<&str, Weaver> = BTreeMap::new();
    for (number, mutant) in (1..).zip(list) {
        if without.contains(&number) {
            continue;
        }
        let genre = GENRES.into_iter().find(|genre| *genre == mutant.genre);
        let genre = genre.ok_or_else(|| format!("an unknown kind of mutant: {}", mutant.genre))?;
        let weaver = files
            .entry(&mutant.file)
            .or_insert_with(|| Weaver { waiting: BTreeMap::new(), refused: Vec::new() });
        let key = (genre, mutant.span.start.line, mutant.span.start.column);
        weaver.waiting.entry(key).or_default().push((number, mutant.replacement.clone()));
    }
    let mut more = fs::OpenOptions::new().create(true).append(true).open(skipped)?;
    for (file, mut weaver) in files {
        let path = tree.join(file);
        let mut source = syn::parse_file(&fs::read_to_string(&path)?)?;
        weaver.visit_file_mut(&mut source);
        fs::write(&path, prettyplease::unparse(&source))?;
        for (number, words) in weaver.refused {
            writeln!(more, "{number}\t{words}")?;
        }
        for (number, _) in weaver.waiting.into_values().flatten() {
            writeln!(more, "{number}\tits place was not found")?;
        }
    }
    let root = tree.join("actors/src/lib.rs");
    fs::write(&root, fs::read_to_string(&root)? + SWITCH)?;
    Ok(())
}

/// What of the compiler's messages is needed.
#[derive(Deserialize)]
struct Line {
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    message: String,
    code: Option<Code>,
    spans: Vec<At>,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct At {
    file_name: String,
    byte_start: usize,
    is_primary: bool,
}

/// The mutant inside whose switch a place lies, of several the inmost one or the `outmost`; else the last
/// one before it.
fn culprit(text: &str, place: usize, outmost: bool) -> Option<usize> {
    const CALL: &str = "crate::mutant::on(";
    let mut last = None;
    let mut inside = None;
    for (at, _) in text.match_indices(CALL).take_while(|(at, _)| *at <= place) {
        let rest = &text[at + CALL.len()..];
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        let number = digits.parse().ok()?;
        last = Some(number);
        let mut depth = 0_usize;
        let end = rest.char_indices().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            *c == '}' && depth == 0
        });
        let around = end.is_some_and(|(end, _)| at + CALL.len() + end >= place);
        if around && !(outmost && inside.is_some()) {
            inside = Some(number);
        }
    }
    inside.or(last)
}

/// The first arm after a place that stands or falls with its switch alone: without it a match knows too little.
fn arm_after(text: &str, place: usize) -> Option<usize> {
    const GUARD: &str = "if !crate::mutant::on(";
    text.get(place..)?
        .split(GUARD)
        .skip(1)
        .find_map(|rest| rest.split_once("usize) =>")?.0.parse().ok())
}

fn blame(tree: &Path, skipped: &Path) -> Result<()> {
    let mut found = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(Line { message: Some(message) }) = serde_json::from_str(&line?) else { continue };
        let Some(at) = message.spans.iter().find(|at| at.is_primary) else { continue };
        if message.level != "error" {
            continue;
        }
        let text = fs::read_to_string(tree.join(&at.file_name))?;
        let code = message.code.map_or_else(String::new, |code| code.code);
        // Types are found not to fit at the inmost expression, whichever is wrong about them.
        let number = match code.as_str() {
            "E0004" => arm_after(&text, at.byte_start),
            _ => culprit(&text, at.byte_start, code == "E0308"),
        };
        let number =
            number.ok_or_else(|| format!("an error without a mutant: {}", message.message))?;
        found.insert(number, format!("{code} {}", message.message.replace(['\n', '\t'], " ")));
    }
    // A type that does not fit is often another mutant's fault: it stays until nothing else is wrong.
    let surer = found.values().any(|words| !words.starts_with("E0308"));
    found.retain(|_, words| !surer || !words.starts_with("E0308"));
    let mut more = fs::OpenOptions::new().create(true).append(true).open(skipped)?;
    for (number, words) in found {
        writeln!(more, "{number}\t{words}")?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--blame", tree, skipped] => blame(Path::new(tree), Path::new(skipped)),
        [list, tree, skipped] => {
            let list: Vec<Mutant> = serde_json::from_str(&fs::read_to_string(list)?)?;
            weave(&list, Path::new(tree), Path::new(skipped))
        }
        _ => Err("weave LIST TREE SKIPPED, or weave --blame TREE SKIPPED".into()),
    }
}
