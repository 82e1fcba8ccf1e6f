//! A map from bytes to values that is a list while it is small.
//!
//! Most nodes of a routing tree have a handful of children, for which a walk
//! over a list beats hashing the key.

use std::collections::HashMap;

/// Entries that a list may have before it becomes a hash map.
const MAX_LIST: usize = 8;

/// Entries with distinct keys.
pub(super) enum Mapping<V> {
    List(Vec<(Box<[u8]>, V)>),
    Hash(HashMap<Box<[u8]>, V>),
}

impl<V> Default for Mapping<V> {
    fn default() -> Self {
        Mapping::List(Vec::new())
    }
}

impl<V: Default> Mapping<V> {
    pub fn is_empty(&self) -> bool {
        matches!(self, Mapping::List(list) if list.is_empty())
    }

    pub fn get(&self, key: &[u8]) -> Option<&V> {
        match self {
            Mapping::List(list) => list.iter().find(|(k, _)| **k == *key).map(|(_, v)| v),
            Mapping::Hash(map) => map.get(key),
        }
    }

    /// The value of `key`, made first if there is none.
    pub fn get_or_default(&mut self, key: &[u8]) -> &mut V {
        if let Mapping::List(list) = self
            && list.len() == MAX_LIST
            && !list.iter().any(|(k, _)| **k == *key)
        {
            *self = Mapping::Hash(list.drain(..).collect());
        }
        match self {
            Mapping::List(list) => {
                let at = list.iter().position(|(k, _)| **k == *key);
                let at = at.unwrap_or_else(|| {
                    list.push((key.into(), V::default()));
                    list.len() - 1
                });
                &mut list[at].1
            }
            Mapping::Hash(map) => map.entry(key.into()).or_default(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        let (list, map) = match self {
            Mapping::List(list) => (Some(list), None),
            Mapping::Hash(map) => (None, Some(map)),
        };
        let list = list.into_iter().flatten().map(|(k, v)| (&**k, v));
        list.chain(map.into_iter().flatten().map(|(k, v)| (&**k, v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_one_map_when_it_grows() {
        let mut map: Mapping<usize> = Mapping::default();
        for i in 0..40_usize {
            *map.get_or_default(i.to_string().as_bytes()) = i;
            *map.get_or_default(b"0") = 0;
            assert_eq!(map.iter().count(), i + 1);
        }
        assert!(matches!(map, Mapping::Hash(_)));
        assert!((0..40).all(|i| map.get(i.to_string().as_bytes()) == Some(&i)));
        assert_eq!(map.get(b"40"), None);
    }
}
