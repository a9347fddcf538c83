//! A small read-through map that can never serve what was true before an invalidation.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;

use parking_lot::RwLock;

/// Keys to shared values, filled on demand from a source of truth.
///
/// A fill that began before [`Cache::clear`] is returned to its caller but not kept: the generation tells.
pub(crate) struct Cache<K, V> {
    state: RwLock<State<K, V>>,
    entries_max: usize,
}

struct State<K, V> {
    generation: u64,
    entries: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Keeps at most `entries_max` values; a full cache starts over, which is cheap and needs no bookkeeping.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { state: RwLock::new(State { generation: 0, entries: HashMap::new() }), entries_max }
    }

    /// The value of `key`, or what `load` finds; absence is not cached.
    pub(crate) async fn get<E, F>(&self, key: &K, load: impl FnOnce() -> F) -> Result<Option<V>, E>
    where
        F: Future<Output = Result<Option<V>, E>>,
    {
        let generation = {
            let state = self.state.read();
            if let Some(value) = state.entries.get(key) {
                return Ok(Some(value.clone()));
            }
            state.generation
        };
        let Some(value) = load().await? else { return Ok(None) };
        let mut state = self.state.write();
        if state.generation == generation {
            if state.entries.len() >= self.entries_max {
                state.entries.clear();
            }
            state.entries.insert(key.clone(), value.clone());
        }
        Ok(Some(value))
    }

    /// Forgets everything, also fills under way. Call it after the change is durable.
    pub(crate) fn clear(&self) {
        let mut state = self.state.write();
        state.generation += 1;
        state.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fill_that_races_an_invalidation_is_not_kept() {
        let cache: Cache<u8, u8> = Cache::new(2);
        let load = |v| async move { Ok::<_, ()>(Some(v)) };
        let seen = cache
            .get(&1, || async {
                cache.clear();
                Ok::<_, ()>(Some(7))
            })
            .await;
        assert_eq!(seen, Ok(Some(7)));
        assert_eq!(cache.get(&1, || load(8)).await, Ok(Some(8)));
        assert_eq!(cache.get(&1, || load(9)).await, Ok(Some(8)));
        assert_eq!(cache.get(&2, || async { Ok::<_, ()>(None) }).await, Ok(None));
        assert_eq!(cache.get(&2, || load(2)).await, Ok(Some(2)));
        assert_eq!(cache.get(&3, || load(3)).await, Ok(Some(3)));
        assert!(cache.state.read().entries.len() <= 2);
    }
}
