//! The blocks of a pcapng file that are written (draft-ietf-opsawg-pcapng §4), little endian.

/// Block types.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Options.
const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;

/// Longest text of an option, in octets. A longer one is cut.
const MAX_TEXT: usize = 4096;

/// A section header with a comment and the name of the program.
pub(super) fn section_header(out: &mut Vec<u8>, comment: &str, program: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        // Length of the section: not known.
        out.extend((-1_i64).to_le_bytes());
        text(out, COMMENT, comment);
        text(out, USER_APPLICATION, program);
        end_of_options(out);
    });
}

/// An interface whose times are in nanoseconds.
pub(super) fn interface_description(out: &mut Vec<u8>, link: u16, name: &str) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend(link.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        // No limit to the captured length is claimed.
        out.extend(0_u32.to_le_bytes());
        text(out, INTERFACE_NAME, name);
        option(out, TIME_RESOLUTION, &[9]);
        end_of_options(out);
    });
}

/// A packet, with a comment if there is something to say.
pub(super) fn enhanced_packet(
    out: &mut Vec<u8>,
    interface: u32,
    time: u64,
    data: &[u8],
    wire_length: u32,
    comment: Option<&str>,
) {
    block(out, ENHANCED_PACKET, |out| {
        out.extend(interface.to_le_bytes());
        timestamp(out, time);
        out.extend(length(data).to_le_bytes());
        out.extend(wire_length.max(length(data)).to_le_bytes());
        out.extend(data);
        pad(out);
        if let Some(comment) = comment {
            text(out, COMMENT, comment);
            end_of_options(out);
        }
    });
}

/// What is known at the end.
pub(super) fn interface_statistics(out: &mut Vec<u8>, interface: u32, time: u64, comment: &str) {
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend(interface.to_le_bytes());
        timestamp(out, time);
        text(out, COMMENT, comment);
        end_of_options(out);
    });
}

/// A block with both of its lengths. Blocks begin at multiples of four in `out`.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let total = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(field) = out.get_mut(start + 4..start + 8) {
        field.copy_from_slice(&total);
    }
    out.extend(total);
}

fn timestamp(out: &mut Vec<u8>, time: u64) {
    let [high, low] = [time >> 32, time & 0xffff_ffff];
    for half in [high, low] {
        out.extend(u32::try_from(half).unwrap_or(0).to_le_bytes());
    }
}

fn text(out: &mut Vec<u8>, code: u16, text: &str) {
    let cut = text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
    option(out, code, cut.as_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(value);
    pad(out);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

fn length(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}
