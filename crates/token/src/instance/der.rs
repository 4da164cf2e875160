//! A strict reader of DER (X.690), which also takes what AWS sends of BER: lengths left open, and a text in pieces, where it is told so.
//!
//! Knows tags and lengths. What the values mean is for those who ask for them, one by one: nothing here walks a tree that the sender
//! chose, so depth and memory are the caller's.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const CONSTRUCTED_OCTET_STRING: u8 = 0x24;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// `[number]`, constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Why bytes are not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerFault {
    #[error("it ends in the middle of a value")]
    Truncated,
    #[error("a value of another kind stands where one of the tag `{expected:#04x}` belongs")]
    WrongTag { expected: u8 },
    #[error("a length is not in its shortest form, or is left open where it must be known")]
    Length,
    #[error("something stands after the end of a value")]
    Trailing,
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'d>(&'d [u8]);

enum Length {
    Known(usize),
    /// X.690, 8.1.3.6: until two zero bytes.
    Open,
}

impl<'d> Reader<'d> {
    pub(super) fn new(bytes: &'d [u8]) -> Self {
        Self(bytes)
    }

    /// That nothing is left.
    pub(super) fn end(self) -> Result<(), DerFault> {
        if self.0.is_empty() { Ok(()) } else { Err(DerFault::Trailing) }
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Whether a value of that tag comes next.
    pub(super) fn next_is(self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The content of the next value, whose length must be known.
    pub(super) fn value(&mut self, tag: u8) -> Result<&'d [u8], DerFault> {
        self.tag(tag)?;
        match self.length()? {
            Length::Known(length) => self.take(length),
            Length::Open => Err(DerFault::Length),
        }
    }

    /// The next value whole, tag and length included.
    pub(super) fn whole(&mut self, tag: u8) -> Result<&'d [u8], DerFault> {
        let all = self.0;
        self.value(tag)?;
        let length = all.len().saturating_sub(self.0.len());
        all.get(..length).ok_or(DerFault::Truncated)
    }

    /// A reader of the content of the next value, whose length must be known.
    pub(super) fn nested(&mut self, tag: u8) -> Result<Reader<'d>, DerFault> {
        self.value(tag).map(Reader)
    }

    /// Reads the content of the next value to its end; its length may be left open.
    pub(super) fn inside<T, E: From<DerFault>>(
        &mut self,
        tag: u8,
        read: impl FnOnce(&mut Reader<'d>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.tag(tag)?;
        match self.length()? {
            Length::Known(length) => {
                let mut content = Reader(self.take(length)?);
                let found = read(&mut content)?;
                content.end()?;
                Ok(found)
            }
            Length::Open => {
                let found = read(self)?;
                self.end_of_contents()?;
                Ok(found)
            }
        }
    }

    /// The bytes of an OCTET STRING, which may come in pieces. A piece is no string of pieces in its turn.
    pub(super) fn octets(&mut self) -> Result<Vec<u8>, DerFault> {
        if self.next_is(OCTET_STRING) {
            return self.value(OCTET_STRING).map(<[u8]>::to_vec);
        }
        self.inside(CONSTRUCTED_OCTET_STRING, |pieces| {
            let mut octets = Vec::new();
            while pieces.next_is(OCTET_STRING) {
                octets.extend_from_slice(pieces.value(OCTET_STRING)?);
            }
            Ok(octets)
        })
    }

    fn end_of_contents(&mut self) -> Result<(), DerFault> {
        match self.take(2)? {
            [0, 0] => Ok(()),
            _ => Err(DerFault::Trailing),
        }
    }

    fn tag(&mut self, expected: u8) -> Result<(), DerFault> {
        match self.byte()? {
            found if found == expected => Ok(()),
            _ => Err(DerFault::WrongTag { expected }),
        }
    }

    /// X.690, 10.1: "the definite form of length encoding shall be used, encoded in the minimum number of octets".
    fn length(&mut self) -> Result<Length, DerFault> {
        let first = self.byte()?;
        match first {
            0..=0x7f => Ok(Length::Known(usize::from(first))),
            0x80 => Ok(Length::Open),
            // Three bytes count further than anything that is read here is long.
            0x81..=0x83 => {
                let digits = self.take(usize::from(first & 0x7f))?;
                let length =
                    digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
                let is_shortest = length > 0x7f && digits.first() != Some(&0);
                if is_shortest { Ok(Length::Known(length)) } else { Err(DerFault::Length) }
            }
            0x84..=0xff => Err(DerFault::Length),
        }
    }

    fn byte(&mut self) -> Result<u8, DerFault> {
        let (first, rest) = self.0.split_first().ok_or(DerFault::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'d [u8], DerFault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DerFault::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        fn check(bytes: &[u8], expected: Result<usize, DerFault>) {
            let mut reader = Reader::new(bytes);
            let found = reader.value(OCTET_STRING).map(<[u8]>::len);
            assert_eq!(found, expected, "{:02x?}", bytes.get(..8).unwrap_or(bytes));
        }
        let long = |head: &[u8], length: usize| [head, &vec![0; length]].concat();
        check(&[4, 0], Ok(0));
        check(&[4, 1, 9], Ok(1));
        check(&long(&[4, 0x81, 0x80], 128), Ok(128));
        check(&long(&[4, 0x82, 1, 0], 256), Ok(256));
        check(&long(&[4, 0x83, 1, 0, 0], 65_536), Ok(65_536));
        check(&[], Err(DerFault::Truncated));
        check(&[4], Err(DerFault::Truncated));
        check(&[4, 2, 9], Err(DerFault::Truncated));
        check(&[5, 0], Err(DerFault::WrongTag { expected: OCTET_STRING }));
        // Longer than needed, left open, or longer than there could be.
        check(&long(&[4, 0x81, 0x7f], 127), Err(DerFault::Length));
        check(&long(&[4, 0x82, 0, 0x80], 128), Err(DerFault::Length));
        check(&[4, 0x80, 0, 0], Err(DerFault::Length));
        check(&[4, 0x84, 0, 0, 0, 1, 9], Err(DerFault::Length));
        check(&[4, 0x84, 0xff, 0xff, 0xff, 0xff], Err(DerFault::Length));
        check(&[4, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Err(DerFault::Length));
        check(&[4, 0xff], Err(DerFault::Length));
        check(&[4, 0x83, 0xff, 0xff, 0xff], Err(DerFault::Truncated));
    }

    #[test]
    fn octets_in_pieces() {
        fn check(bytes: &[u8], expected: Result<&[u8], DerFault>) {
            let mut reader = Reader::new(bytes);
            let found = reader.octets().and_then(|octets| reader.end().map(|()| octets));
            assert_eq!(found, expected.map(<[u8]>::to_vec), "{bytes:02x?}");
        }
        check(&[4, 2, 1, 2], Ok(&[1, 2]));
        check(&[0x24, 0x80, 4, 1, 1, 4, 1, 2, 0, 0], Ok(&[1, 2]));
        check(&[0x24, 6, 4, 1, 1, 4, 1, 2], Ok(&[1, 2]));
        check(&[0x24, 0x80, 0, 0], Ok(&[]));
        check(&[0x24, 0x80, 4, 1, 1], Err(DerFault::Truncated));
        check(&[0x24, 0x80, 4, 1, 1, 0], Err(DerFault::Truncated));
        check(&[0x24, 0x80, 4, 1, 1, 0, 1], Err(DerFault::Trailing));
        check(&[0x24, 5, 4, 1, 1, 5, 0], Err(DerFault::Trailing));
        // Pieces of pieces.
        check(&[0x24, 0x80, 0x24, 0x80, 4, 1, 1, 0, 0, 0, 0], Err(DerFault::Trailing));
    }
}
