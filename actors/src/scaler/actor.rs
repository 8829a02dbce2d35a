//! The scaler actor.
