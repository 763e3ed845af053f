//! Puts the component model's thread built-ins in the place of `conet:fibers/threads`.
//!
//! A guest resumes its coroutines itself, which is cheaper than a call of the host's for each. The built-ins do that, but
//! today's toolchains write them in an encoding that has changed since. So the guest imports functions of the same core
//! types, and here those are exchanged where they are lowered; nothing else changes. The result is validated like any
//! component.

use std::borrow::Cow;

use wasm_encoder::{CanonicalFunctionSection, Encode};
use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentAliasSectionReader,
    ComponentCanonicalSectionReader, ComponentExportSectionReader, ComponentExternalKind,
    ComponentImportSectionReader, ComponentInstanceSectionReader, ComponentTypeRef,
};

use super::sections::{COMPONENT_SECTION, Section, rewrite_sections};

/// Why a component's calls could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ThreadsError {
    /// The bytes are not a component, or not one that this host's parser knows.
    #[error("the component is malformed: {0}")]
    Malformed(#[from] BinaryReaderError),
    /// Components inside components, too deep.
    #[error("the component is nested more than {DEPTH_MAX} deep")]
    Nested,
    /// A function that this host does not know.
    #[error(
        "the component imports `{0}` of conet:fibers/threads: build it with the conet-guest-sdk of this host's version"
    )]
    Unknown(String),
}

/// The component with built-ins; borrowed if it asks for none.
pub fn instrument(component: &[u8]) -> Result<Cow<'_, [u8]>, ThreadsError> {
    rewrite(component, 0)
}

fn rewrite(component: &[u8], depth: usize) -> Result<Cow<'_, [u8]>, ThreadsError> {
    if depth > DEPTH_MAX {
        return Err(ThreadsError::Nested);
    }
    let mut spaces = Spaces::default();
    rewrite_sections(component, |section| match section.id {
        COMPONENT_SECTION => rewrite(section.content, depth + 1),
        CANONICAL_SECTION => spaces.rewrite_canonicals(section),
        _ => {
            spaces.note(section)?;
            Ok(Cow::Borrowed(section.content))
        }
    })
}

/// What the indices of a component stand for, as far as it matters here.
#[derive(Default)]
struct Spaces<'a> {
    /// Is the instance the import of `conet:fibers/threads`?
    instances: Vec<bool>,
    /// The function's name there.
    functions: Vec<Option<&'a str>>,
}

impl<'a> Spaces<'a> {
    fn note(&mut self, section: &Section<'a>) -> Result<(), ThreadsError> {
        match section.id {
            IMPORT_SECTION => {
                for import in ComponentImportSectionReader::new(section.reader())? {
                    let import = import?;
                    match import.ty {
                        ComponentTypeRef::Instance(_) => {
                            let name = import.name.name;
                            self.instances.push(name.split('@').next() == Some(THREADS));
                        }
                        ComponentTypeRef::Func(_) => self.functions.push(None),
                        _ => {}
                    }
                }
            }
            INSTANCE_SECTION => {
                for instance in ComponentInstanceSectionReader::new(section.reader())? {
                    instance?;
                    self.instances.push(false);
                }
            }
            ALIAS_SECTION => {
                for alias in ComponentAliasSectionReader::new(section.reader())? {
                    if let ComponentAlias::InstanceExport { kind, instance_index, name } = alias? {
                        let threads = self.instances.get(instance_index as usize) == Some(&true);
                        self.add(kind, threads.then_some(name));
                    }
                }
            }
            EXPORT_SECTION => {
                for export in ComponentExportSectionReader::new(section.reader())? {
                    self.add(export?.kind, None);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, kind: ComponentExternalKind, name: Option<&'a str>) {
        match kind {
            ComponentExternalKind::Func => self.functions.push(name),
            ComponentExternalKind::Instance => self.instances.push(false),
            _ => {}
        }
    }

    fn rewrite_canonicals(&mut self, section: &Section<'a>) -> Result<Cow<'a, [u8]>, ThreadsError> {
        let canonicals = ComponentCanonicalSectionReader::new(section.reader())?;
        let count = canonicals.count();
        let mut out = Vec::new();
        count.encode(&mut out);
        let mut canonicals = canonicals.into_iter_with_offsets();
        let mut changed = false;
        let mut next = canonicals.next().transpose()?;
        while let Some((start, canonical)) = next {
            next = canonicals.next().transpose()?;
            let end = next.as_ref().map_or(section.content.len(), |(start, _)| *start);
            match self.built_in(&canonical)? {
                Some(built_in) => {
                    out.extend(built_in);
                    changed = true;
                }
                None => out.extend(&section.content[start..end]),
            }
        }
        Ok(if changed { Cow::Owned(out) } else { Cow::Borrowed(section.content) })
    }

    /// What to put in the place of a function that is lowered.
    fn built_in(&mut self, canonical: &CanonicalFunction) -> Result<Option<Vec<u8>>, ThreadsError> {
        let function = match canonical {
            CanonicalFunction::Lift { .. } => {
                self.functions.push(None);
                return Ok(None);
            }
            CanonicalFunction::Lower { func_index, .. } => self.functions.get(*func_index as usize),
            _ => return Ok(None),
        };
        let Some(Some(name)) = function else { return Ok(None) };
        let mut section = CanonicalFunctionSection::new();
        match *name {
            "index" => section.thread_index(),
            "suspend" => section.thread_suspend(false),
            "suspend-then-resume" => section.thread_suspend_then_resume(false),
            "resume-later" => section.thread_resume_later(),
            other => return Err(ThreadsError::Unknown(other.to_owned())),
        };
        let mut encoded = Vec::new();
        section.encode(&mut encoded);
        // After the section's size and its count, both one byte.
        Ok(Some(encoded.split_off(2)))
    }
}

const THREADS: &str = "conet:fibers/threads";

const DEPTH_MAX: usize = 32;

const INSTANCE_SECTION: u8 = 5;
const ALIAS_SECTION: u8 = 6;
const CANONICAL_SECTION: u8 = 8;
const IMPORT_SECTION: u8 = 10;
const EXPORT_SECTION: u8 = 11;

#[cfg(test)]
mod tests;
