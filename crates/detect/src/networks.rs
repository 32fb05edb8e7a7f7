//! Which of many networks an address lies in.
//!
//! In: networks, each with an atom. Out: for a text that spells an address, the atoms of all networks around it.
//! Invariant: a text costs one reading and one lookup for each length of prefix that occurs, 162 at most, however many
//! networks there are: a list of addresses against a list of networks was their product.

use std::{collections::BTreeSet, net::IpAddr};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::matcher::address;

/// Of IPv6; length of the prefix; the bits before its end.
type Prefix = (bool, u8, u128);

/// Networks by their prefix.
#[derive(Debug)]
pub(crate) struct Networks {
    atoms: HashMap<Prefix, Vec<u32>, FixedState>,
    /// Lengths that occur, by family.
    lengths: [Vec<u8>; 2],
}

impl Networks {
    pub(crate) fn new(networks: Vec<(IpNet, u32)>) -> Self {
        let mut atoms: HashMap<Prefix, Vec<u32>, FixedState> = HashMap::default();
        let mut lengths = [BTreeSet::new(), BTreeSet::new()];
        for (network, atom) in networks {
            let (six, length) = (network.addr().is_ipv6(), network.prefix_len());
            lengths[usize::from(six)].insert(length);
            atoms.entry(prefix(network.addr(), length)).or_default().push(atom);
        }
        Self { atoms, lengths: lengths.map(|lengths| lengths.into_iter().collect()) }
    }

    /// Reports the atoms whose network holds the address that a text spells, or the IPv4 address that this one stands for.
    pub(crate) fn scan(&self, text: &str, report: &mut impl FnMut(u32, bool)) {
        let Some(address) = address(text) else { return };
        let canonical = address.to_canonical();
        self.look_up(address, report);
        if canonical != address {
            self.look_up(canonical, report);
        }
    }

    fn look_up(&self, address: IpAddr, report: &mut impl FnMut(u32, bool)) {
        for length in &self.lengths[usize::from(address.is_ipv6())] {
            for atom in self.atoms.get(&prefix(address, *length)).into_iter().flatten() {
                report(*atom, true);
            }
        }
    }
}

fn prefix(address: IpAddr, length: u8) -> Prefix {
    let (six, bits, width) = match address {
        IpAddr::V4(address) => (false, u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (true, address.to_bits(), 128),
    };
    let bits = bits.checked_shr(width - u32::from(length)).unwrap_or(0);
    (six, length, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(networks: &Networks, text: &str) -> Vec<u32> {
        let mut found = Vec::new();
        networks.scan(text, &mut |atom, proof| {
            assert!(proof);
            found.push(atom);
        });
        found.sort_unstable();
        found
    }

    #[test]
    fn all_networks_around_an_address_are_found() {
        let texts = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.3/32",
            "::/0",
            "2001:db8::/32",
            "2001:db8::1/128",
        ];
        let networks: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let all = Networks::new((0..).zip(&networks).map(|(at, network)| (*network, at)).collect());
        for text in [
            "10.1.2.3",
            "10.2.0.0",
            "9.9.9.9",
            "::ffff:10.1.2.3",
            "2001:DB8::1",
            "2001:db9::1",
            "x",
            "",
            "10.1.2.3.4",
        ] {
            let wanted: Vec<u32> = (0..)
                .zip(&networks)
                .filter(|(_, network)| {
                    text.parse::<IpAddr>()
                        .is_ok_and(|ip| network.contains(&ip) || network.contains(&ip.to_canonical()))
                })
                .map(|(at, _)| at)
                .collect();
            assert_eq!(found(&all, text), wanted, "{text}");
        }
    }

    #[test]
    fn an_address_costs_as_many_lookups_as_there_are_lengths() {
        let many = (0..10_000_u32).map(|n| (format!("10.{}.{}.0/24", n >> 8, n & 255).parse().unwrap(), n));
        let all = Networks::new(many.collect());
        assert_eq!(all.lengths, [vec![24], vec![]]);
        assert_eq!((all.atoms.len(), found(&all, "10.3.7.9")), (10_000, vec![3 * 256 + 7]));
    }
}
