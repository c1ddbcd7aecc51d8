//! The answers that SDKs get which do not evaluate themselves, made beforehand: one piece of JSON
//! for each variation, so that an answer is put together by copying. Pieces of neighbours that
//! every target is served alike are one.

use std::ops::Range;

use crate::decisions::Decisions;
use crate::evaluator::Evaluation;
use crate::flag::Outcome;
use crate::{Environment, EvaluationError, Flag, Target, Variation};

/// The pieces of an environment's flags.
#[derive(Debug)]
pub(crate) struct Answers {
    /// For each variation a comma and an object.
    text: Box<[u8]>,
    /// Where each variation's piece is, flag by flag.
    pieces: Box<[Range<usize>]>,
    /// The first piece of each flag.
    first: Box<[usize]>,
    steps: Box<[Step]>,
    decisions: Decisions,
}

/// How the answer of all flags is put together.
#[derive(Debug)]
enum Step {
    /// What every target gets.
    Copy(Range<usize>),
    Evaluate(usize),
}

impl Answers {
    pub(crate) fn new(flags: &[std::sync::Arc<Flag>]) -> Self {
        let (mut text, mut pieces, mut first) = (Vec::new(), Vec::new(), Vec::new());
        // Of flags that serve everybody the same, their own pieces once more, side by side.
        let mut alike = Vec::new();
        let mut steps: Vec<Step> = Vec::new();
        for (index, flag) in flags.iter().enumerate() {
            first.push(pieces.len());
            for variation in flag.variations() {
                let start = text.len();
                write(&mut text, flag, variation);
                pieces.push(start..text.len());
            }
            let constant = flag
                .constant()
                .and_then(|at| flag.variations().get(at as usize));
            let Some(variation) = constant else {
                steps.push(Step::Evaluate(index));
                continue;
            };
            let start = alike.len();
            write(&mut alike, flag, variation);
            match steps.last_mut() {
                Some(Step::Copy(range)) => range.end = alike.len(),
                _ => steps.push(Step::Copy(start..alike.len())),
            }
        }
        for step in &mut steps {
            if let Step::Copy(range) = step {
                *range = range.start + text.len()..range.end + text.len();
            }
        }
        text.append(&mut alike);
        Self {
            text: text.into(),
            pieces: pieces.into(),
            first: first.into(),
            steps: steps.into(),
            decisions: Decisions::new(flags),
        }
    }

    /// The piece of a variation, with a comma in front.
    fn piece(&self, flag: usize, variation: u32) -> &[u8] {
        let at = self.first[flag] + variation as usize;
        &self.text[self.pieces[at].clone()]
    }

    /// Appends an array of all flags that can be served, and tells of those that cannot.
    pub(crate) fn write_all(
        &self,
        environment: &Environment,
        target: &Target,
        out: &mut Vec<u8>,
        mut left_out: impl FnMut(EvaluationError),
    ) {
        let start = out.len();
        out.reserve(self.text.len() / 2 + 2);
        let mut evaluation = Evaluation::of_all(environment, &self.decisions, target);
        for step in &self.steps {
            match step {
                Step::Copy(range) => out.extend_from_slice(&self.text[range.clone()]),
                Step::Evaluate(index) => match evaluation.outcome(*index) {
                    Outcome::Variation(at) => out.extend_from_slice(self.piece(*index, *at)),
                    outcome => left_out(environment.flags()[*index].fault(outcome)),
                },
            }
        }
        // The first comma makes room for the bracket.
        match out.get_mut(start) {
            Some(comma) => *comma = b'[',
            None => out.push(b'['),
        }
        out.push(b']');
    }

    /// The object of one flag.
    pub(crate) fn one(
        &self,
        environment: &Environment,
        index: usize,
        target: &Target,
    ) -> Result<&[u8], EvaluationError> {
        match Evaluation::new(environment, target).outcome(index) {
            Outcome::Variation(at) => Ok(&self.piece(index, *at)[1..]),
            outcome => Err(environment.flags()[index].fault(outcome)),
        }
    }
}

fn write(out: &mut Vec<u8>, flag: &Flag, variation: &Variation) {
    let fields = [
        (&b",{\"flag\":"[..], flag.identifier()),
        (b",\"value\":", &variation.value),
        (b",\"kind\":", flag.kind()),
        (b",\"identifier\":", &variation.identifier),
    ];
    for (name, text) in fields {
        out.extend_from_slice(name);
        serde_json::to_writer(&mut *out, text).expect("writing a string to a vector does not fail");
    }
    out.push(b'}');
}
