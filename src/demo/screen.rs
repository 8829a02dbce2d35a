//! Where a demo's progress is shown: a table that redraws itself, plain lines, or nowhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use runner_fleet_actors::event::ReadModel;

use super::{outside::Outside, report};
use crate::cli::{self, Output, table::terminal_width};

/// The screen of one demo.
pub(super) struct Screen {
    live: bool,
    shown: Option<Instant>,
    told: usize,
    quiet: bool,
}

impl Screen {
    pub(super) fn new(output: Output) -> Self {
        let live = output == Output::Table && std::io::stdout().is_terminal();
        Self { live, shown: None, told: 0, quiet: output == Output::Json }
    }

    pub(super) fn show(&mut self, model: &ReadModel, outside: &Outside, at: Duration) {
        let pause = Duration::from_millis(if self.live { 200 } else { 5000 });
        if self.quiet {
            return;
        }
        if !self.live {
            for line in &outside.news[self.told..] {
                let _shown = cli::say(line);
            }
            self.told = outside.news.len();
        }
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        let first = self.shown.replace(Instant::now()).is_none();
        let jobs = outside.github.stats();
        let text = if self.live {
            let vms = outside.cloud.present();
            let text = report::now(model, &jobs, vms, &outside.news, terminal_width());
            let clear = if first { "\x1b[2J" } else { "" };
            // Home, then each line cleared to its end, then the rest of the screen.
            format!("{clear}\x1b[H{}\x1b[J", (text + "\n").replace('\n', "\x1b[K\n"))
        } else {
            report::line(model, &jobs, at)
        };
        let _shown = cli::say(&text);
    }

    pub(super) fn end(&self) {
        if self.live {
            let _shown = cli::say("");
        }
    }
}
