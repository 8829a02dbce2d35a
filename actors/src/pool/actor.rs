//! The pool actor.
