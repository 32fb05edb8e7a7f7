//! Networks without the addresses that are to be spared.
//!
//! In: a network and the networks to spare. Out: the prefixes that remain, in order. Invariants: no remaining prefix overlaps what is
//! spared, and together they are all the rest; their number is bounded, and beyond the bound there is no answer, not half of one.

use ipnet::IpNet;

/// More prefixes would remain than are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {0} prefixes would remain")]
pub struct TooMany(pub usize);

/// The prefixes of `net` that are left when all of `spared` is taken out of it.
///
/// # Errors
/// If there are more than `most`.
pub fn subtract(net: IpNet, spared: &[IpNet], most: usize) -> Result<Vec<IpNet>, TooMany> {
    let net = net.trunc();
    let mut inside = Vec::new();
    for other in spared {
        if other.contains(&net) {
            return Ok(Vec::new());
        }
        if net.contains(other) {
            inside.push(other.trunc());
        }
    }
    let inside = IpNet::aggregate(&inside);
    // Of two neighbours that cannot be joined at least one in two has something between it and the next.
    if inside.len() > most.saturating_mul(2).saturating_add(2) {
        return Err(TooMany(most));
    }
    let mut left = Vec::new();
    let mut open = vec![net];
    while let Some(next) = open.pop() {
        if inside.iter().any(|spared| spared.contains(&next)) {
            continue;
        }
        if !inside.iter().any(|spared| next.contains(spared)) {
            if left.len() >= most {
                return Err(TooMany(most));
            }
            left.push(next);
            continue;
        }
        // It holds something smaller than itself, so it can be halved. The upper half goes in first, to come out in order.
        let halves = next.subnets(next.prefix_len() + 1).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        open.extend(halves.into_iter().rev());
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_spared_is_cut_out_and_the_rest_stays() {
        let cut = |net: &str, spared: &[&str]| subtract(net.parse().unwrap(), &nets(spared), 64);
        assert_eq!(
            cut("203.0.113.0/29", &["203.0.113.1/32"]).unwrap(),
            nets(&["203.0.113.0/32", "203.0.113.2/31", "203.0.113.4/30"])
        );
        assert_eq!(cut("203.0.113.0/24", &["203.0.0.0/16"]).unwrap(), []);
        assert_eq!(cut("203.0.113.7/32", &["203.0.113.7/32"]).unwrap(), []);
        assert_eq!(
            cut("203.0.113.0/24", &["198.51.100.0/24", "2001:db8::/32"]).unwrap(),
            nets(&["203.0.113.0/24"])
        );
        assert_eq!(cut("2001:db8::/32", &["2001:db8::1/128"]), Err(TooMany(64)));
        assert_eq!(cut("0.0.0.0/0", &["0.0.0.0/1", "128.0.0.0/1"]).unwrap(), []);
        assert_eq!(cut("0.0.0.0/0", &["0.0.0.0/0"]).unwrap(), []);
    }

    #[test]
    fn a_hostile_number_of_spared_addresses_is_refused_at_once() {
        let many: Vec<IpNet> =
            (0..60_000_u32).map(|n| IpNet::from(IpAddr::V4(Ipv4Addr::from(n * 4)))).collect();
        assert_eq!(subtract("0.0.0.0/0".parse().unwrap(), &many, 256), Err(TooMany(256)));
    }

    proptest! {
        #[test]
        fn every_address_is_either_spared_or_left(
            bits in 22_u8..=28,
            spared in prop::collection::vec((0_u32..1024, 24_u8..=32), 0..12),
        ) {
            let net = IpNet::new(Ipv4Addr::from(0xC000_0200_u32).into(), bits).unwrap().trunc();
            let base = 0xC000_0000_u32;
            let spared: Vec<IpNet> =
                spared.into_iter().map(|(at, bits)| IpNet::new(Ipv4Addr::from(base + at).into(), bits).unwrap()).collect();
            let left = subtract(net, &spared, 1024).unwrap();
            for at in 0..2048_u32 {
                let address = IpAddr::V4(Ipv4Addr::from(base + at));
                let wanted = net.contains(&address) && !spared.iter().any(|s| s.contains(&address));
                prop_assert_eq!(left.iter().filter(|piece| piece.contains(&address)).count(), usize::from(wanted));
            }
            prop_assert!(left.is_sorted());
        }
    }
}
