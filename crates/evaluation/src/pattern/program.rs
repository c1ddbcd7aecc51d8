//! A program of small steps for patterns that regex-automata would need much
//! memory or stack for: a set of states over code points. Time is linear in
//! the text, memory in the program, and classes are shared by their copies.

use regex_syntax::hir::{ClassUnicode, Look};

use super::syntax::{Kind, NodeId, Tree};

#[derive(Clone, Copy, Debug)]
enum Step {
    Char(char),
    Class(u32),
    Look(Look),
    Jump(u32),
    Split(u32, u32),
    Found,
}

type Ranges = Box<[(char, char)]>;

#[derive(Debug)]
pub(super) struct Program {
    steps: Box<[Step]>,
    classes: Box<[Ranges]>,
}

/// What is left to write.
enum Task {
    Node(NodeId),
    /// The rest of a repetition: copies that must be, copies that may be.
    Copies {
        sub: NodeId,
        required: u32,
        optional: Option<u32>,
        exits: Vec<usize>,
    },
    /// The end of a loop that begins at this step.
    Loop(usize),
    /// The rest of an alternation, and the jumps to its end.
    Alternatives {
        of: NodeId,
        next: usize,
        split: Option<usize>,
        exits: Vec<usize>,
    },
}

impl Program {
    pub(super) fn new(tree: &Tree) -> Self {
        let mut writer = Writer {
            tree,
            steps: Vec::new(),
            tasks: vec![Task::Node(tree.root)],
        };
        while let Some(task) = writer.tasks.pop() {
            writer.write(task);
        }
        writer.steps.push(Step::Found);
        let ranges = |class: &ClassUnicode| class.iter().map(|r| (r.start(), r.end())).collect();
        Self {
            steps: writer.steps.into(),
            classes: tree.classes.iter().map(ranges).collect(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let ranges: usize = self.classes.iter().map(|c| c.len()).sum();
        self.steps.len() * size_of::<Step>() + ranges * size_of::<(char, char)>()
    }

    pub(super) fn is_found(&self, text: &str) -> bool {
        let mut now = States::new(self.steps.len());
        let mut next = States::new(self.steps.len());
        let mut before = None;
        let mut rest = text.chars();
        loop {
            let mut place = Place {
                before,
                after: rest.clone().next(),
            };
            if self.enter(0, &mut now, &place) {
                return true;
            }
            let Some(c) = rest.next() else {
                return false;
            };
            place = Place {
                before: Some(c),
                after: rest.clone().next(),
            };
            for at in 0..now.members.len() {
                let state = now.members[at];
                let passes = match self.steps[state as usize] {
                    Step::Char(expected) => expected == c,
                    Step::Class(id) => contains(&self.classes[id as usize], c),
                    _ => false,
                };
                if passes && self.enter(state + 1, &mut next, &place) {
                    return true;
                }
            }
            now.members.clear();
            std::mem::swap(&mut now, &mut next);
            before = Some(c);
        }
    }

    /// Enters a state and all that follow without a character; says whether
    /// the end is among them.
    fn enter(&self, state: u32, states: &mut States, place: &Place) -> bool {
        states.pending.push(state);
        while let Some(state) = states.pending.pop() {
            if !states.insert(state) {
                continue;
            }
            match self.steps[state as usize] {
                Step::Found => {
                    states.pending.clear();
                    return true;
                }
                Step::Jump(to) => states.pending.push(to),
                Step::Split(one, other) => states.pending.extend([other, one]),
                Step::Look(look) if place.holds(look) => states.pending.push(state + 1),
                Step::Look(_) | Step::Char(_) | Step::Class(_) => {}
            }
        }
        false
    }
}

fn contains(ranges: &[(char, char)], c: char) -> bool {
    let after = ranges.partition_point(|&(from, _)| from <= c);
    after > 0 && c <= ranges[after - 1].1
}

/// A place between two characters.
struct Place {
    before: Option<char>,
    after: Option<char>,
}

impl Place {
    fn holds(&self, look: Look) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c == '_' || c.is_ascii_alphanumeric());
        match look {
            Look::Start => self.before.is_none(),
            Look::End => self.after.is_none(),
            Look::StartLF => matches!(self.before, None | Some('\n')),
            Look::EndLF => matches!(self.after, None | Some('\n')),
            Look::WordAscii => word(self.before) != word(self.after),
            Look::WordAsciiNegate => word(self.before) == word(self.after),
            _ => false,
        }
    }
}

/// A set of states, cleared at no cost.
struct States {
    members: Vec<u32>,
    /// Where in `members` a state is, if it is.
    places: Vec<u32>,
    pending: Vec<u32>,
}

impl States {
    fn new(count: usize) -> Self {
        Self {
            members: Vec::new(),
            places: vec![0; count],
            pending: Vec::new(),
        }
    }

    fn insert(&mut self, state: u32) -> bool {
        let place = self.places[state as usize] as usize;
        if self.members.get(place) == Some(&state) {
            return false;
        }
        self.places[state as usize] = index(self.members.len());
        self.members.push(state);
        true
    }
}

struct Writer<'t> {
    tree: &'t Tree,
    steps: Vec<Step>,
    tasks: Vec<Task>,
}

/// Programs have at most a few million steps, see `MAX_SIZE`.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Writer<'_> {
    fn write(&mut self, task: Task) {
        match task {
            Task::Node(id) => self.node(id),
            Task::Loop(start) => {
                self.steps.push(Step::Jump(index(start)));
                self.leave(&[start]);
            }
            Task::Copies {
                sub,
                required,
                optional,
                exits,
            } => self.copies(sub, required, optional, exits),
            Task::Alternatives {
                of,
                next,
                split,
                exits,
            } => self.alternatives(of, next, split, exits),
        }
    }

    /// Lets the steps at `exits` go on at the next step to be written.
    fn leave(&mut self, exits: &[usize]) {
        let here = index(self.steps.len());
        for &exit in exits {
            match &mut self.steps[exit] {
                Step::Split(_, to) | Step::Jump(to) => *to = here,
                _ => {}
            }
        }
    }

    /// A choice between the next step and one that is not yet known.
    fn split(&mut self) -> usize {
        let at = self.steps.len();
        self.steps.push(Step::Split(index(at + 1), 0));
        at
    }

    fn node(&mut self, id: NodeId) {
        let tree = self.tree;
        match &tree.node(id).kind {
            Kind::Empty => {}
            Kind::Char(c) => self.steps.push(Step::Char(*c)),
            Kind::Class(class) => self.steps.push(Step::Class(*class)),
            Kind::Look(look) => self.steps.push(Step::Look(*look)),
            Kind::Group(sub) => self.tasks.push(Task::Node(*sub)),
            Kind::Concat(subs) => {
                let tasks = subs.iter().rev().map(|&sub| Task::Node(sub));
                self.tasks.extend(tasks);
            }
            Kind::Alternate(_) => self.alternatives(id, 0, None, Vec::new()),
            Kind::Repeat { sub, min, max } => {
                let optional = max.map(|max| max - min);
                self.copies(*sub, *min, optional, Vec::new());
            }
        }
    }

    fn copies(&mut self, sub: NodeId, required: u32, optional: Option<u32>, mut exits: Vec<usize>) {
        let (required, optional) = match (required, optional) {
            (0, None) => {
                let start = self.split();
                self.tasks.push(Task::Loop(start));
                self.tasks.push(Task::Node(sub));
                return;
            }
            (0, Some(0)) => {
                self.leave(&exits);
                return;
            }
            (0, Some(more)) => {
                exits.push(self.split());
                (0, Some(more - 1))
            }
            (required, optional) => (required - 1, optional),
        };
        self.tasks.push(Task::Copies {
            sub,
            required,
            optional,
            exits,
        });
        self.tasks.push(Task::Node(sub));
    }

    fn alternatives(
        &mut self,
        of: NodeId,
        next: usize,
        split: Option<usize>,
        mut exits: Vec<usize>,
    ) {
        let Kind::Alternate(subs) = &self.tree.node(of).kind else {
            return;
        };
        let Some(&sub) = subs.get(next) else {
            self.leave(&exits);
            return;
        };
        if let Some(split) = split {
            exits.push(self.steps.len());
            self.steps.push(Step::Jump(0));
            self.leave(&[split]);
        }
        let last = next + 1 == subs.len();
        let split = (!last).then(|| self.split());
        self.tasks.push(Task::Alternatives {
            of,
            next: next + 1,
            split,
            exits,
        });
        self.tasks.push(Task::Node(sub));
    }
}
