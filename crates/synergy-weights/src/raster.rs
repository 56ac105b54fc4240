//! Pictures on disk: SVG as it is, PNG drawn by resvg with a font that comes with a crate, because a bare machine has
//! none. Same picture, same bytes.

use std::path::Path;
use std::sync::Arc;

use nightshift_core::{Failure, OrFail};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// Pixels per SVG unit.
const SCALE: f32 = 2.0;

/// Refuses a name that is neither .svg nor .png, before any work is done.
pub(crate) fn check(file: &Path) -> Result<(), Failure> {
    if is(file, "svg") || is(file, "png") {
        Ok(())
    } else {
        Err(Failure::usage(format!("{}: a picture is .svg or .png", file.display())))
    }
}

/// What to write into a file of this name.
pub(crate) fn bytes(file: &Path, svg: &str) -> Result<Vec<u8>, Failure> {
    if is(file, "png") { png(svg) } else { Ok(svg.as_bytes().to_vec()) }
}

fn is(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// A picture of any size as PNG, two pixels a unit.
pub(crate) fn png(svg: &str) -> Result<Vec<u8>, Failure> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family("Ubuntu");
    let options = Options { fontdb: Arc::new(fonts), font_family: "Ubuntu".into(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).or_fail(|| "the picture cannot be drawn".into())?;
    let size = tree.size();
    let (width, height) = ((size.width() * SCALE).ceil() as u32, (size.height() * SCALE).ceil() as u32);
    let mut pixels =
        Pixmap::new(width, height).ok_or_else(|| Failure::failed("no memory for the picture"))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().or_fail(|| "the picture cannot be written as PNG".into())
}
