//! GitHub as the forge.
