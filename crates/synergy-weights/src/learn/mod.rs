//! The learners of the seven weights.
