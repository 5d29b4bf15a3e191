//! Tests of the whole system. The cases that start processes and speak through the published client are in `python/`.
