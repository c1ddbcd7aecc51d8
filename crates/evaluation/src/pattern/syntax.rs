//! The tree of a parsed pattern: nodes in one vector, children before their
//! parents, so that nothing that walks, builds or drops it recurses.

use std::collections::HashMap;

use regex_syntax::hir::{ClassUnicode, Look};

/// The most steps that a pattern may have once its repetitions are written
/// out; Go refuses larger ones.
pub(super) const MAX_SIZE: u64 = (128 << 20) / 40;

/// The deepest tree that Go accepts.
pub(super) const MAX_HEIGHT: u32 = 1000;

/// The largest count of a repetition, also multiplied by nesting.
pub(super) const MAX_COUNT: u32 = 1000;

pub(super) type NodeId = u32;

#[derive(Debug)]
pub(super) enum Kind {
    Empty,
    /// Index of one of [`Tree::classes`].
    Class(u32),
    Char(char),
    Look(Look),
    Group(NodeId),
    Concat(Box<[NodeId]>),
    Alternate(Box<[NodeId]>),
    Repeat {
        sub: NodeId,
        min: u32,
        max: Option<u32>,
    },
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// As Go measures it: sequences in sequences count as one.
    height: u32,
    /// How deep the tree really is.
    pub(super) depth: u32,
    /// Steps of a program for this node, its repetitions written out.
    pub(super) size: u64,
    /// The largest product of counts on a path below.
    counts: u32,
}

/// A pattern is beyond one of Go's limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) classes: Vec<ClassUnicode>,
    class_ids: HashMap<Ranges, u32>,
    pub(super) root: NodeId,
}

/// The ranges of a class, as a key.
type Ranges = Box<[(char, char)]>;

impl Tree {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn root(&self) -> &Node {
        self.node(self.root)
    }

    fn add(&mut self, node: Node) -> Result<NodeId, TooLarge> {
        if node.height > MAX_HEIGHT || node.size > MAX_SIZE {
            return Err(TooLarge);
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| TooLarge)?;
        self.nodes.push(node);
        Ok(id)
    }

    fn leaf(&mut self, kind: Kind) -> Result<NodeId, TooLarge> {
        self.add(Node {
            kind,
            height: 1,
            depth: 1,
            size: 1,
            counts: 1,
        })
    }

    pub(super) fn empty(&mut self) -> Result<NodeId, TooLarge> {
        self.leaf(Kind::Empty)
    }

    pub(super) fn look(&mut self, look: Look) -> Result<NodeId, TooLarge> {
        self.leaf(Kind::Look(look))
    }

    pub(super) fn class(&mut self, class: ClassUnicode) -> Result<NodeId, TooLarge> {
        if let [only] = class.ranges()
            && only.start() == only.end()
        {
            let only = only.start();
            return self.leaf(Kind::Char(only));
        }
        let key: Ranges = class.iter().map(|r| (r.start(), r.end())).collect();
        let next = u32::try_from(self.classes.len()).map_err(|_| TooLarge)?;
        let id = *self.class_ids.entry(key).or_insert(next);
        if id == next {
            self.classes.push(class);
        }
        self.leaf(Kind::Class(id))
    }

    /// A capturing group: nothing but a level of nesting.
    pub(super) fn group(&mut self, sub: NodeId) -> Result<NodeId, TooLarge> {
        let below = self.node(sub);
        let (height, depth) = (below.height + 1, below.depth + 1);
        let (size, counts) = (below.size, below.counts);
        self.add(Node {
            kind: Kind::Group(sub),
            height,
            depth,
            size,
            counts,
        })
    }

    pub(super) fn repeat(
        &mut self,
        sub: NodeId,
        min: u32,
        max: Option<u32>,
        counted: bool,
    ) -> Result<NodeId, TooLarge> {
        let below = self.node(sub);
        let copies = max.unwrap_or(min.max(1));
        let counts = match (counted, copies) {
            (_, 0) => 1,
            (true, n) if max.is_some() || min > 0 => below.counts.saturating_mul(n),
            _ => below.counts,
        };
        if counts > MAX_COUNT {
            return Err(TooLarge);
        }
        let size =
            below.size.saturating_mul(u64::from(copies)) + u64::from(copies - min.min(copies)) + 2;
        let (height, depth) = (below.height + 1, below.depth + 1);
        self.add(Node {
            kind: Kind::Repeat { sub, min, max },
            height,
            depth,
            size,
            counts,
        })
    }

    pub(super) fn concat(&mut self, subs: Vec<NodeId>) -> Result<NodeId, TooLarge> {
        match subs.len() {
            0 => self.empty(),
            1 => Ok(subs[0]),
            _ => {
                let height = self.height_of_sequence(&subs);
                let (size, counts, depth) = self.sums(&subs);
                self.add(Node {
                    kind: Kind::Concat(subs.into()),
                    height,
                    depth,
                    size,
                    counts,
                })
            }
        }
    }

    /// Alternatives; those that are all single characters become a class.
    pub(super) fn alternate(&mut self, subs: Vec<NodeId>) -> Result<NodeId, TooLarge> {
        if subs.len() == 1 {
            return Ok(subs[0]);
        }
        if let Some(class) = self.merged(&subs) {
            return self.class(class);
        }
        let inner = |kind: &Kind| matches!(kind, Kind::Alternate(_));
        let height = 1 + self.highest(&subs, inner);
        let (size, counts, depth) = self.sums(&subs);
        let size = size + subs.len() as u64;
        self.add(Node {
            kind: Kind::Alternate(subs.into()),
            height,
            depth,
            size,
            counts,
        })
    }

    fn merged(&self, subs: &[NodeId]) -> Option<ClassUnicode> {
        let mut ranges = Vec::new();
        for &sub in subs {
            match self.node(sub).kind {
                Kind::Char(c) => ranges.push(regex_syntax::hir::ClassUnicodeRange::new(c, c)),
                Kind::Class(id) => ranges.extend_from_slice(self.classes[id as usize].ranges()),
                _ => return None,
            }
        }
        Some(ClassUnicode::new(ranges))
    }

    /// The highest of `subs`, where those that are merged into their parent
    /// do not count themselves.
    fn highest(&self, subs: &[NodeId], merged: impl Fn(&Kind) -> bool) -> u32 {
        let height = |&sub: &NodeId| {
            let node = self.node(sub);
            let own = u32::from(merged(&node.kind));
            (node.height - own).max(1)
        };
        subs.iter().map(height).max().unwrap_or(0)
    }

    /// A run of characters counts as one text, as high as a character.
    fn height_of_sequence(&self, subs: &[NodeId]) -> u32 {
        let text = |&sub: &NodeId| matches!(self.node(sub).kind, Kind::Char(_));
        let below = self.highest(subs, |kind| matches!(kind, Kind::Concat(_)));
        below + u32::from(!subs.iter().all(text))
    }

    /// Size, counts and depth of a node over `subs`.
    fn sums(&self, subs: &[NodeId]) -> (u64, u32, u32) {
        let nodes = || subs.iter().map(|&s| self.node(s));
        let size = nodes().map(|n| n.size).sum();
        let counts = nodes().map(|n| n.counts).max().unwrap_or(1);
        let depth = nodes().map(|n| n.depth).max().unwrap_or(0) + 1;
        (size, counts, depth)
    }
}
