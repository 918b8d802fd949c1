"""The claims in short: what those that are used beyond the proofs say, in a sentence each.

docs/theory.md and ``proofs_check`` have all of them in full.
"""

from __future__ import annotations

IN_SHORT: dict[str, str] = {
    "C7": "while the gradient norm per example weight, N, is below rho (mu_easy + mu_hard), the hard feature gains on"
    " the easy one under SAM; under plain gradient descent it only loses",
    "C8": "a feature shrinks under SAM while N is below rho times its strength; between the two thresholds the easy"
    " feature shrinks and the hard one grows",
    "C10": "starts below the collapse boundary, near ||theta|| = rho, run to zero",
    "C11": "at the phantom point the gap of the weight logits between minority and majority contracts, so that the"
    " example weights are more even there",
    "C12": "the phantom point suppresses the easy feature's response more than the hard one's exactly if"
    " D_hard w_hard / v_hard < D_easy w_easy / v_easy",
    "C14": "where all examples are multiples of one, all of SAM's balancing comes from the Jacobian (learning-rate"
    " scaling); on spurious data the example weights matter too",
    "C21": "for the last layer, phantom margins, weights and responses of any network follow exactly from its"
    " penultimate features",
    "C22": "over many features, plain training amplifies in proportion to a feature's strength mu; SAM's log-gain is a"
    " downward parabola in mu",
    "C36": "a linear network whose neurons share the features learns the direction of the data under plain training and"
    " SAM alike, so that SAM has nothing to balance",
    "C38": "filters shared by patches balance under SAM if the head tells the places apart (flattening), as the"
    " diagonal network does from any start; under a pooled head (global pooling) they are C36's network and do not",
    "C39": "the hard feature gains only because all features share one norm of the gradient: with a norm per feature, a"
    " hard weight that starts no larger loses by SAM; a norm per layer takes nothing away",
    "C40": "adaptive SAM suppresses a feature by the margin that it has learned: from rho > sqrt2 (1 - mu_hard /"
    " mu_easy) on, the hard share stays away from 0, whatever the start",
    "C41": "SAM's gain at matched loss follows from a run of plain training alone, to first order in rho; what counts"
    " is the relative radius rho / ||theta||",
    "C42": "SAM in some steps only gains what the integral of 1/N over these steps gives: early steps count most where"
    " one atom kind is learned from a small start",
    "C43": "where the patterns of two features overlap, SAM balances the modes of the data instead of the features, and"
    " adds less to the hard share the larger their cosine is",
}
