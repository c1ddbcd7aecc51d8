//! Rows of indexes in two allocations: what refers to what.

#[derive(Debug)]
pub(crate) struct Links {
    ends: Vec<usize>,
    items: Vec<u32>,
}

impl Links {
    pub(crate) fn new() -> Self {
        Self {
            ends: vec![0],
            items: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: impl Iterator<Item = u32>) {
        self.items.extend(row);
        self.ends.push(self.items.len());
    }

    pub(crate) fn rows(&self) -> usize {
        self.ends.len() - 1
    }

    pub(crate) fn row(&self, at: usize) -> &[u32] {
        self.span(at, at + 1)
    }

    /// Where a row begins among the items of all.
    pub(crate) fn start(&self, at: usize) -> usize {
        self.ends[at]
    }

    /// The rows from `from` up to `to`, as one.
    pub(crate) fn span(&self, from: usize, to: usize) -> &[u32] {
        &self.items[self.ends[from]..self.ends[to]]
    }

    pub(crate) fn shrink(&mut self) {
        self.ends.shrink_to_fit();
        self.items.shrink_to_fit();
    }
}

/// The lists of groups of many owners.
#[derive(Debug)]
pub(crate) struct ListLinks {
    lists: Links,
    /// The first list of each owner, and of one beyond the last.
    first: Vec<usize>,
}

impl ListLinks {
    /// Unknown names are left out: the contract skips them.
    pub(crate) fn new<'n>(
        owners: impl Iterator<Item = &'n [Box<[Box<str>]>]>,
        find: impl Fn(&str) -> Option<u32>,
    ) -> Self {
        let mut lists = Links::new();
        let mut first = vec![0];
        for owner in owners {
            for list in owner {
                lists.push(list.iter().filter_map(|name| find(name)));
            }
            first.push(lists.rows());
        }
        lists.shrink();
        first.shrink_to_fit();
        Self { lists, first }
    }

    pub(crate) fn list(&self, owner: usize, list: u32) -> &[u32] {
        self.lists.row(self.first[owner] + list as usize)
    }

    /// All lists of an owner, as one.
    pub(crate) fn all(&self, owner: usize) -> &[u32] {
        self.lists.span(self.first[owner], self.first[owner + 1])
    }
}
