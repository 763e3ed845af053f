//! Encodes the worlds of the contract, for the `component-type` section that a guest's macro emits. The linker reads from
//! it how to make the component.

use std::error::Error;
use std::path::Path;

use wit_component::StringEncoding;
use wit_parser::Resolve;

/// A world in the linker's form, and the file it goes to.
pub(crate) struct World {
    pub(crate) file: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// The worlds that the macros choose from.
pub(crate) fn encode(wit: &Path) -> Result<Vec<World>, Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (net, _) = resolve.push_dir(wit.join("net"))?;
    let (fibers, _) = resolve.push_dir(wit.join("fibers"))?;
    let mut worlds = Vec::new();
    for (file, package, name) in [
        ("handler.component-type", net, "spawning-handler"),
        ("shared-handler.component-type", fibers, "handler"),
        ("program.component-type", fibers, "program"),
    ] {
        let world = resolve.select_world(&[package], Some(name))?;
        let bytes = wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None)?;
        worlds.push(World { file, bytes });
    }
    Ok(worlds)
}
