//! Circles in a graph of references, of any depth and without recursion.

/// A graph's nodes, those that a node refers to before the node itself, those
/// of a circle together.
#[derive(Debug, Default)]
pub(crate) struct Components {
    order: Box<[u32]>,
    ends: Box<[usize]>,
}

impl Components {
    /// `references` gives the nodes that a node refers to.
    pub(crate) fn new<'g>(nodes: usize, references: impl Fn(usize) -> &'g [u32]) -> Self {
        let mut search = Search {
            found: vec![0; nodes],
            lowest: vec![0; nodes],
            count: 0,
            waiting: Vec::new(),
            order: Vec::with_capacity(nodes),
            ends: Vec::new(),
        };
        let mut path: Vec<(usize, usize)> = Vec::new();
        for root in 0..nodes {
            if search.found[root] != 0 {
                continue;
            }
            search.enter(root);
            path.push((root, 0));
            while let Some((node, next)) = path.last_mut() {
                let node = *node;
                let Some(&to) = references(node).get(*next) else {
                    path.pop();
                    let parent = path.last().map(|&(parent, _)| parent);
                    search.leave(node, parent);
                    continue;
                };
                *next += 1;
                let to = to as usize;
                if search.found[to] == 0 {
                    search.enter(to);
                    path.push((to, 0));
                } else {
                    // `found` is cleared to the greatest once a node is done.
                    search.lowest[node] = search.lowest[node].min(search.found[to]);
                }
            }
        }
        Self {
            order: search.order.into(),
            ends: search.ends.into(),
        }
    }

    /// The circles and single nodes, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let component = &self.order[start..end];
            start = end;
            component
        })
    }
}

struct Search {
    /// When a node was found, from 1 on; `u32::MAX` once its component is
    /// complete.
    found: Vec<u32>,
    /// The earliest node on the path that a node is known to lead to.
    lowest: Vec<u32>,
    count: u32,
    /// Nodes whose component is not yet complete.
    waiting: Vec<u32>,
    order: Vec<u32>,
    ends: Vec<usize>,
}

impl Search {
    fn enter(&mut self, node: usize) {
        self.count += 1;
        self.found[node] = self.count;
        self.lowest[node] = self.count;
        // References are u32, and so are nodes.
        self.waiting.push(u32::try_from(node).unwrap_or(u32::MAX));
    }

    fn leave(&mut self, node: usize, parent: Option<usize>) {
        if let Some(parent) = parent {
            self.lowest[parent] = self.lowest[parent].min(self.lowest[node]);
        }
        if self.lowest[node] != self.found[node] {
            return;
        }
        while let Some(member) = self.waiting.pop() {
            self.found[member as usize] = u32::MAX;
            self.order.push(member);
            if member as usize == node {
                break;
            }
        }
        self.ends.push(self.order.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_come_together_behind_what_they_refer_to() {
        let graph: [&[u32]; 6] = [&[1, 3], &[2], &[0, 4], &[4], &[], &[5]];
        let components = Components::new(6, |node| graph[node]);
        let mut found: Vec<Vec<u32>> = components.iter().map(<[u32]>::to_vec).collect();
        for circle in &mut found {
            circle.sort_unstable();
        }
        assert_eq!(found, [vec![4], vec![3], vec![0, 1, 2], vec![5]]);
    }

    #[test]
    fn long_chains_need_no_stack() {
        let chain: Vec<u32> = (1..200_000).collect();
        let components = Components::new(200_000, |node| chain.get(node..=node).unwrap_or(&[]));
        assert_eq!(components.iter().count(), 200_000);
    }
}
