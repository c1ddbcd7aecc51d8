//! An explanation in words, for a terminal.

use std::fmt::{Display, Formatter, Result};

use super::{Clause, Decision, Entry, Explanation, Group, GroupList, Rollout, Rule, Serve};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(
            f,
            "flag `{}` ({}, version {}) for target `{}`",
            self.flag, self.kind, self.version, self.subject.identifier
        )?;
        match (&self.served, &self.error) {
            (Some(served), _) => {
                writeln!(f, "serves `{}`: {}", served.variation, served.value)?;
            }
            (None, error) => {
                let error = error.as_deref().unwrap_or("there is nothing to serve");
                writeln!(f, "serves nothing: {error}")?;
            }
        }
        writeln!(f, "because {}", self.decided_by)?;
        self.write_subject(f)?;
        self.write_prerequisites(f)?;
        let state = if self.on { "on" } else { "off" };
        writeln!(f, "\n2. state: {state}")?;
        self.write_targeting(f)?;
        self.write_rules(f)?;
        match &self.default {
            None => writeln!(f, "\n5. default: not reached")?,
            Some(default) => writeln!(f, "\n5. default: {default}")?,
        }
        if !self.groups.is_empty() {
            writeln!(f, "\ngroups that were asked for")?;
        }
        for group in &self.groups {
            write!(f, "{group}")?;
        }
        if self.left_out > 0 {
            writeln!(f, "\n({} more are not shown)", self.left_out)?;
        }
        Ok(())
    }
}

impl Explanation {
    fn write_subject(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "\nthe target")?;
        writeln!(f, "   identifier = {:?}", self.subject.identifier)?;
        writeln!(f, "   name = {:?}", self.subject.name)?;
        for (key, text) in &self.subject.attributes {
            writeln!(f, "   {key} = {text:?}")?;
        }
        Ok(())
    }

    fn write_prerequisites(&self, f: &mut Formatter<'_>) -> Result {
        if self.prerequisites.is_empty() {
            return writeln!(f, "\n1. prerequisites: none");
        }
        writeln!(f, "\n1. prerequisites")?;
        for requirement in &self.prerequisites {
            let wants = names(&requirement.wants);
            writeln!(
                f,
                "   {} `{}` requires `{}` to serve {wants}: {}",
                mark(requirement.met),
                requirement.of,
                requirement.feature,
                requirement.why
            )?;
        }
        Ok(())
    }

    fn write_targeting(&self, f: &mut Formatter<'_>) -> Result {
        match &self.targeting {
            None => writeln!(f, "\n3. targets: not reached"),
            Some(entries) if entries.is_empty() => writeln!(f, "\n3. targets: none are listed"),
            Some(entries) => {
                writeln!(f, "\n3. targets")?;
                entries.iter().try_for_each(|entry| write!(f, "{entry}"))
            }
        }
    }

    fn write_rules(&self, f: &mut Formatter<'_>) -> Result {
        match &self.rules {
            None => writeln!(f, "\n4. rules: not reached"),
            Some(rules) if rules.is_empty() => writeln!(f, "\n4. rules: none"),
            Some(rules) => {
                writeln!(f, "\n4. rules, by priority")?;
                for (at, rule) in rules.iter().enumerate() {
                    write_rule(f, at + 1, rule)?;
                }
                Ok(())
            }
        }
    }
}

impl Display for Decision {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Prerequisite { feature } => {
                write!(f, "prerequisite `{feature}` is not met: the off variation")
            }
            Self::Off => f.write_str("the flag is off: the off variation"),
            Self::Target { entry } => write!(f, "entry {entry} of the targets lists the target"),
            Self::TargetGroup { entry, group } => write!(
                f,
                "entry {entry} of the targets lists the group `{group}`, which has the target"
            ),
            Self::Rule { rule, id } if id.is_empty() => write!(f, "rule {rule} matched"),
            Self::Rule { rule, id } => write!(f, "rule {rule} ({id}) matched"),
            Self::Default => f.write_str("nothing before gave anything: the default"),
        }
    }
}

impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let listed = if self.listed { "among" } else { "not among" };
        write!(f, "   {} `{}`: ", mark(self.matched), self.variation)?;
        write!(f, "{listed} its {} targets", self.targets)?;
        if let Some(groups) = &self.groups {
            write!(f, "; {groups}")?;
        }
        if self.matched && self.variation.is_empty() {
            write!(f, "; its variation is empty, so the rules follow")?;
        }
        writeln!(f)
    }
}

impl Display for GroupList {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (&self.decided_by, self.holds) {
            (Some(group), true) => write!(f, "in group `{group}`")?,
            (Some(group), false) => write!(f, "excluded by group `{group}`")?,
            (None, _) => write!(f, "in no group of {}", names(&self.names))?,
        }
        if !self.unknown.is_empty() {
            write!(f, " (no such group: {})", names(&self.unknown))?;
        }
        Ok(())
    }
}

fn write_rule(f: &mut Formatter<'_>, number: usize, rule: &Rule) -> Result {
    write!(f, "   {} rule {number}", mark(rule.matched))?;
    if let Some(serve) = &rule.serve {
        write!(f, ", priority {}", rule.priority)?;
        if !rule.id.is_empty() {
            write!(f, " ({})", rule.id)?;
        }
        write!(f, ", serves {serve}")?;
        if rule.matched && serve.result.is_none() {
            write!(f, "; that is nothing, so the default follows")?;
        }
    }
    writeln!(f)?;
    if rule.clauses.is_empty() {
        writeln!(f, "       it has no clauses, and so matches")?;
    }
    for clause in &rule.clauses {
        writeln!(f, "       {clause}")?;
    }
    Ok(())
}

impl Display for Clause {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} ", mark(self.holds))?;
        if self.op == "segmentMatch" {
            write!(f, "in group ")?;
        } else {
            write!(f, "`{}` {} ", self.attribute, self.op)?;
        }
        write!(f, "{}", names(&self.values))?;
        let more = self.count.saturating_sub(self.values.len());
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Display for Serve {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match (&self.rollout, &self.variation) {
            (Some(rollout), _) => write!(f, "{rollout}"),
            (None, Some(variation)) => write!(f, "`{variation}`"),
            (None, None) => f.write_str("nothing"),
        }
    }
}

impl Display for Rollout {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "a rollout by `{}` (", self.bucket_by)?;
        for (at, share) in self.variations.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}`{}` up to {}", share.variation, share.up_to)?;
        }
        match (&self.hashed, self.bucket) {
            (Some(hashed), Some(bucket)) => write!(f, "): {hashed:?} is in bucket {bucket}")?,
            _ => write!(f, "): there is nothing to hash, so the last one counts")?,
        }
        match &self.result {
            Some(result) => write!(f, ", which gives `{result}`"),
            None => write!(f, ", which gives nothing"),
        }
    }
}

impl Display for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let place = if self.contains { "in" } else { "not in" };
        writeln!(f, "   `{}`: {place}; {}", self.identifier, self.why)?;
        for (at, rule) in self.rules.iter().enumerate() {
            write!(f, "    ")?;
            write_rule(f, at + 1, rule)?;
        }
        Ok(())
    }
}

fn mark(holds: bool) -> char {
    if holds { '✓' } else { '✗' }
}

fn names(names: &[String]) -> String {
    match names {
        [] => "nothing".into(),
        names => {
            let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            quoted.join(", ")
        }
    }
}
