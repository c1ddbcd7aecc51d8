//! Ordinary patterns as regex-automata matchers.

use regex_automata::meta::{Builder, Config, Regex};
use regex_syntax::hir::{Class, Hir, Repetition};

use super::syntax::{Kind, Tree};

/// regex-automata recurses; deeper patterns are not for it.
const MAX_DEPTH: u32 = 50;
/// Steps with repetitions written out.
const MAX_SIZE: u64 = 2_000;
/// Bytes of its graph of states.
const MAX_GRAPH: usize = 512 << 10;
/// Bytes of states that a search may remember, for each thread and direction.
const CACHE: usize = 128 << 10;

/// A matcher and about how many bytes it keeps, or `None` if the pattern is
/// too deep or too large.
pub(super) fn compile(tree: &Tree) -> Option<(Regex, usize)> {
    let root = tree.root();
    if root.depth > MAX_DEPTH || root.size > MAX_SIZE {
        return None;
    }
    let config = Config::new()
        .nfa_size_limit(Some(MAX_GRAPH))
        .onepass_size_limit(Some(CACHE))
        .hybrid_cache_capacity(CACHE)
        .dfa_size_limit(Some(16 << 10));
    let regex = Builder::new()
        .configure(config)
        .build_from_hir(&hir(tree))
        .ok()?;
    let bytes = regex.memory_usage() + 2 * CACHE;
    Some((regex, bytes))
}

/// Nodes stand behind their children, and each has one parent.
fn hir(tree: &Tree) -> Hir {
    let mut built: Vec<Hir> = Vec::with_capacity(tree.nodes.len());
    for node in &tree.nodes {
        let mut take = |id: u32| std::mem::replace(&mut built[id as usize], Hir::empty());
        let hir = match &node.kind {
            Kind::Empty => Hir::empty(),
            Kind::Char(c) => Hir::literal(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Kind::Class(id) => Hir::class(Class::Unicode(tree.classes[*id as usize].clone())),
            Kind::Look(look) => Hir::look(*look),
            Kind::Group(sub) => take(*sub),
            Kind::Concat(subs) => Hir::concat(subs.iter().map(|&sub| take(sub)).collect()),
            Kind::Alternate(subs) => Hir::alternation(subs.iter().map(|&sub| take(sub)).collect()),
            Kind::Repeat { sub, min, max } => Hir::repetition(Repetition {
                min: *min,
                max: *max,
                greedy: true,
                sub: Box::new(take(*sub)),
            }),
        };
        built.push(hir);
    }
    std::mem::replace(&mut built[tree.root as usize], Hir::empty())
}
