//! `vedette playbook`: what would be done, for which alert; and playbooks as `check` tests them.
//!
//! In: folders of rules with their `playbooks/`. Out: a table, test results, or CACAO 2.0 JSON. Nothing is carried out from here.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use vedette_event::Sources;
use vedette_respond::{
    Deed, Playbook, PlaybookSet, Trial, cacao,
    gate::Policy,
    playbook::{On, Trigger},
    try_out,
};
use vedette_sigma::RuleSet;

use crate::{
    Failure, World as _,
    content::{self, RuleText},
    rejected, table,
};

/// What `playbook` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette playbook list
  vedette playbook test waf-contain
  vedette playbook export waf-contain > waf-contain.json

Exit status: 0 done, 1 a playbook was refused or a test failed, 2 wrong use.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What there is, what starts it, and what it would do.
    #[command(after_help = "Example:\n  vedette playbook list --rules detections/")]
    List {
        #[command(flatten)]
        from: From,
    },
    /// Run the inline tests: an alert in, the proposals that must come out.
    #[command(after_help = "Example:\n  vedette playbook test waf-contain")]
    Test {
        /// Only this one.
        name: Option<String>,
        #[command(flatten)]
        from: From,
    },
    /// Write one as CACAO 2.0 JSON.
    #[command(after_help = "Example:\n  vedette playbook export waf-contain > waf-contain.json")]
    Export {
        /// Which.
        name: String,
        #[command(flatten)]
        from: From,
    },
}

#[derive(Debug, clap::Args)]
struct From {
    /// Folder of rules with `playbooks/` in it; may repeat.
    #[arg(long, value_name = "PATH", default_value = "detections/")]
    rules: Vec<PathBuf>,
}

/// Playbooks with their texts, checked against rules and tried out.
#[derive(Debug)]
pub struct Playbooks {
    /// The files.
    pub text: RuleText,
    /// What they hold.
    pub set: PlaybookSet,
    /// How each test of each playbook went, with its place in the set.
    pub trials: Vec<(usize, Trial)>,
}

impl Playbooks {
    /// Reads those below these paths and runs their tests.
    pub fn read(paths: &[PathBuf], rules: &RuleSet, sources: &Sources) -> Self {
        let text = content::playbooks(paths);
        let mut set = vedette_respond::load(&text.files, rules, sources, &Policy::default());
        set.rejected.extend(text.unreadable.iter().cloned());
        let tried = |(at, playbook): (usize, &Playbook)| {
            try_out(&set, playbook, rules).into_iter().map(move |trial| (at, trial)).collect::<Vec<_>>()
        };
        let trials = set.playbooks.iter().enumerate().flat_map(tried).collect();
        Self { text, set, trials }
    }

    /// How many tests failed.
    pub fn failed(&self) -> usize {
        self.trials.iter().filter(|(_, trial)| trial.failed.is_some()).count()
    }

    /// The failed tests, each with its playbook and what came.
    pub fn failures(&self) -> impl Iterator<Item = (&Playbook, &Trial, &str)> {
        self.trials
            .iter()
            .filter_map(|(at, trial)| Some((self.set.playbooks.get(*at)?, trial, trial.failed.as_deref()?)))
    }
}

/// The paths with, in place of a playbook or a folder `playbooks/`, the folder that this is in: without the rules there it cannot be checked.
pub fn with_rules(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    for path in paths {
        let is_folder = |path: &&Path| path.file_name().is_some_and(|name| name == "playbooks");
        let folder = [Some(path.as_path()), path.parent()].into_iter().flatten().find(is_folder);
        let above = folder.map(|folder| match folder.parent() {
            Some(above) if !above.as_os_str().is_empty() => above.to_owned(),
            _ => PathBuf::from("."),
        });
        let path = above.unwrap_or_else(|| path.clone());
        if !out.contains(&path) {
            out.push(path);
        }
    }
    out
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let (Command::List { from } | Command::Test { from, .. } | Command::Export { from, .. }) = &args.command;
    let sources = content::sources_here().map_err(Failure::Usage)?;
    let paths = with_rules(&from.rules);
    let rules = content::rules(&paths).map_err(Failure::Usage)?.load(&sources);
    let playbooks = Playbooks::read(&paths, &rules, &sources);
    rejected::print_refused_playbooks(&playbooks);
    let refused = !playbooks.set.rejected.is_empty();
    let mut out = io::stdout().lock();
    match &args.command {
        Command::List { .. } => {
            let rows: Vec<Vec<String>> = playbooks.set.playbooks.iter().map(|p| row(p, &rules)).collect();
            let heads = ["Playbook", "Mode", "Starts on", "Does"];
            writeln!(out, "{}", table::of(&heads, &rows)).world()?;
            Ok(u8::from(refused))
        }
        Command::Test { name, .. } => {
            if let Some(name) = name {
                named(&playbooks, name)?;
            }
            let wanted = |playbook: &Playbook| name.as_ref().is_none_or(|name| *name == *playbook.name);
            let mut failed = 0;
            for (playbook, trial, why) in playbooks.failures().filter(|(playbook, ..)| wanted(playbook)) {
                failed += 1;
                let Trial { name, line, .. } = trial;
                let (file, of) = (&playbook.file, &playbook.name);
                let told = format!("{file}:{line}: test `{name}` of `{of}` failed: {why}");
                writeln!(out, "{}", table::plain_lines(&told)).world()?;
            }
            let tried = playbooks.trials.iter().filter_map(|(at, _)| playbooks.set.playbooks.get(*at));
            let passed = tried.filter(|playbook| wanted(playbook)).count() - failed;
            writeln!(out, "{passed} tests passed, {failed} failed").world()?;
            Ok(u8::from(failed > 0 || refused))
        }
        Command::Export { name, .. } => {
            let playbook = named(&playbooks, name)?;
            serde_json::to_writer_pretty(&mut out, &cacao(playbook)).map_err(io::Error::from).world()?;
            out.write_all(b"\n").world()?;
            Ok(0)
        }
    }
}

fn named<'a>(playbooks: &'a Playbooks, name: &str) -> Result<&'a Playbook, Failure> {
    playbooks.set.get(name).ok_or_else(|| {
        let known: Vec<&str> = playbooks.set.playbooks.iter().map(|playbook| &*playbook.name).collect();
        let known = if known.is_empty() {
            "there is none".into()
        } else {
            format!("there are: {}", known.join(", "))
        };
        Failure::Usage(anyhow::anyhow!("there is no playbook `{}`; {known}", table::plain(name)))
    })
}

fn row(playbook: &Playbook, rules: &RuleSet) -> Vec<String> {
    let body = &playbook.body;
    let steps = body.steps.iter().map(|step| match (step.deed, &step.target) {
        (Deed::Impose(_, limit), Some(target)) => format!("{} {target} {}", step.deed.name(), limit.first),
        (_, Some(target)) => format!("{} {target}", step.deed.name()),
        _ => step.deed.name().to_owned(),
    });
    let steps: Vec<String> = steps.collect();
    vec![playbook.name.to_string(), body.mode.name().into(), starts(&body.trigger, rules), steps.join(", ")]
}

/// What starts a playbook, in a line.
fn starts(trigger: &Trigger, rules: &RuleSet) -> String {
    let on = match trigger.on {
        On::Notice => "notice",
        On::Alert => "alert",
        On::Both => "notice or alert",
        On::Hand => "by hand",
    };
    let called = |id: &std::sync::Arc<str>| {
        let rule = rules.rules.iter().find(|rule| rule.id == *id);
        rule.and_then(|rule| rule.name.clone()).unwrap_or_else(|| id.clone())
    };
    let mut parts: Vec<std::sync::Arc<str>> = trigger.rules.iter().map(called).collect();
    parts.extend(trigger.tags.iter().chain(&trigger.entity).cloned());
    if trigger.severity > vedette_event::Severity::Informational {
        parts.push(format!("{} and above", trigger.severity.name()).into());
    }
    if parts.is_empty() { on.to_owned() } else { format!("{on}: {}", parts.join(", ")) }
}
