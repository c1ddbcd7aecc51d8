//! Strongly connected components of references, without recursion (Tarjan).

/// The component of each node, numbered so that what a component refers to has a lower number.
pub(crate) fn components(edges: &[Vec<u32>]) -> Vec<u32> {
    const NEW: u32 = u32::MAX;
    let mut index = vec![NEW; edges.len()];
    let mut low = vec![0_u32; edges.len()];
    let mut component = vec![NEW; edges.len()];
    let (mut next_index, mut next_component) = (0, 0);
    let mut open = Vec::new();
    let mut path: Vec<(usize, usize)> = Vec::new();
    for start in 0..edges.len() {
        if index[start] != NEW {
            continue;
        }
        path.push((start, 0));
        while let Some((node, edge)) = path.last_mut() {
            let node = *node;
            if *edge == 0 && index[node] == NEW {
                index[node] = next_index;
                low[node] = next_index;
                next_index += 1;
                open.push(node);
            }
            if let Some(&to) = edges[node].get(*edge) {
                *edge += 1;
                let to = to as usize;
                if index[to] == NEW {
                    path.push((to, 0));
                } else if component[to] == NEW {
                    low[node] = low[node].min(index[to]);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == index[node] {
                while let Some(member) = open.pop() {
                    component[member] = next_component;
                    if member == node {
                        break;
                    }
                }
                next_component += 1;
            }
        }
    }
    component
}

/// The nodes of each component that is a circle.
pub(crate) fn circles(edges: &[Vec<u32>], component: &[u32]) -> Vec<Vec<u32>> {
    let mut members: Vec<Vec<u32>> = Vec::new();
    for (node, &component) in (0_u32..).zip(component) {
        let component = component as usize;
        if members.len() <= component {
            members.resize(component + 1, Vec::new());
        }
        members[component].push(node);
    }
    let is_circle = |m: &Vec<u32>| m.len() > 1 || m.iter().any(|n| edges[*n as usize].contains(n));
    members.retain(is_circle);
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_and_depth_is_no_matter() {
        let edges = vec![vec![1], vec![2], vec![1, 3], vec![], vec![4]];
        let component = components(&edges);
        let mut found = circles(&edges, &component);
        found.sort();
        assert_eq!(found, vec![vec![1, 2], vec![4]]);
        assert!(component[3] < component[1] && component[1] < component[0]);
        let chain: Vec<Vec<u32>> = (0..200_000).map(|n| vec![(n + 1) % 200_000]).collect();
        assert_eq!(circles(&chain, &components(&chain)).len(), 1);
    }
}
