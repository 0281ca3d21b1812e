"""The one place where brand names live: each is one choice on each axis, with paper, or released code, cited.

`ESTIMATORS[name]` has the default parameters; the factory of the same name takes others. By family:

    first     the paper under test, what it compares with, and older losses
    shaped    a smooth weight, a gate, or a product of gates in the place of a clip
    weighed   advantages and normalisers of their own
    sampler   corrections for a sampler that is not theta_old
    trl       what the trainer of TRL 1.16 computes by the name of its options
    verl      the same of verl

Lines of trainers read whole updates where their normaliser does: `estimator.reads_update`.
"""

from ticgrpo_theory.estimators.catalogue.first import cispo as cispo
from ticgrpo_theory.estimators.catalogue.first import dapo as dapo
from ticgrpo_theory.estimators.catalogue.first import dr_grpo as dr_grpo
from ticgrpo_theory.estimators.catalogue.first import gmpo as gmpo
from ticgrpo_theory.estimators.catalogue.first import grpo as grpo
from ticgrpo_theory.estimators.catalogue.first import gspo as gspo
from ticgrpo_theory.estimators.catalogue.first import gspo_narrow as gspo_narrow
from ticgrpo_theory.estimators.catalogue.first import no_is as no_is
from ticgrpo_theory.estimators.catalogue.first import prefix_is as prefix_is
from ticgrpo_theory.estimators.catalogue.first import reinforce as reinforce
from ticgrpo_theory.estimators.catalogue.first import rloo as rloo
from ticgrpo_theory.estimators.catalogue.first import seq_clip as seq_clip
from ticgrpo_theory.estimators.catalogue.first import stale as stale
from ticgrpo_theory.estimators.catalogue.first import tic_grpo as tic_grpo
from ticgrpo_theory.estimators.catalogue.first import tic_grpo_eq11 as tic_grpo_eq11
from ticgrpo_theory.estimators.catalogue.first import tic_grpo_released as tic_grpo_released
from ticgrpo_theory.estimators.catalogue.first import trajectory_is as trajectory_is
from ticgrpo_theory.estimators.catalogue.lines import CITATIONS as CITATIONS
from ticgrpo_theory.estimators.catalogue.lines import ESTIMATORS as ESTIMATORS
from ticgrpo_theory.estimators.catalogue.lines import FACTORIES as FACTORIES
from ticgrpo_theory.estimators.catalogue.lines import FIRST as FIRST
from ticgrpo_theory.estimators.catalogue.lines import OF_ONE_GROUP as OF_ONE_GROUP
from ticgrpo_theory.estimators.catalogue.lines import UNVERIFIED as UNVERIFIED
from ticgrpo_theory.estimators.catalogue.lines import Catalogue as Catalogue
from ticgrpo_theory.estimators.catalogue.lines import name_of as name_of
from ticgrpo_theory.estimators.catalogue.sampler import decoupled_ppo as decoupled_ppo
from ticgrpo_theory.estimators.catalogue.sampler import icepop as icepop
from ticgrpo_theory.estimators.catalogue.sampler import mis as mis
from ticgrpo_theory.estimators.catalogue.sampler import seq_tis as seq_tis
from ticgrpo_theory.estimators.catalogue.sampler import tis as tis
from ticgrpo_theory.estimators.catalogue.shaped import aspo as aspo
from ticgrpo_theory.estimators.catalogue.shaped import ctpo as ctpo
from ticgrpo_theory.estimators.catalogue.shaped import dppo_kl as dppo_kl
from ticgrpo_theory.estimators.catalogue.shaped import dppo_tv as dppo_tv
from ticgrpo_theory.estimators.catalogue.shaped import luspo as luspo
from ticgrpo_theory.estimators.catalogue.shaped import minpro as minpro
from ticgrpo_theory.estimators.catalogue.shaped import opsm as opsm
from ticgrpo_theory.estimators.catalogue.shaped import sapo as sapo
from ticgrpo_theory.estimators.catalogue.shaped import topr as topr
from ticgrpo_theory.estimators.catalogue.shaped import vespo as vespo
from ticgrpo_theory.estimators.catalogue.trl import trl_batch_std as trl_batch_std
from ticgrpo_theory.estimators.catalogue.trl import trl_bnpo as trl_bnpo
from ticgrpo_theory.estimators.catalogue.trl import trl_cispo as trl_cispo
from ticgrpo_theory.estimators.catalogue.trl import trl_dapo as trl_dapo
from ticgrpo_theory.estimators.catalogue.trl import trl_dr_grpo as trl_dr_grpo
from ticgrpo_theory.estimators.catalogue.trl import trl_grpo as trl_grpo
from ticgrpo_theory.estimators.catalogue.trl import trl_sequence_mask as trl_sequence_mask
from ticgrpo_theory.estimators.catalogue.trl import trl_sequence_truncate as trl_sequence_truncate
from ticgrpo_theory.estimators.catalogue.trl import trl_token_mask as trl_token_mask
from ticgrpo_theory.estimators.catalogue.trl import trl_token_truncate as trl_token_truncate
from ticgrpo_theory.estimators.catalogue.verl import verl_cispo as verl_cispo
from ticgrpo_theory.estimators.catalogue.verl import verl_dr_grpo as verl_dr_grpo
from ticgrpo_theory.estimators.catalogue.verl import verl_geo_rs as verl_geo_rs
from ticgrpo_theory.estimators.catalogue.verl import verl_geo_rs_seq_tis as verl_geo_rs_seq_tis
from ticgrpo_theory.estimators.catalogue.verl import verl_geo_rs_token_tis as verl_geo_rs_token_tis
from ticgrpo_theory.estimators.catalogue.verl import verl_gpg as verl_gpg
from ticgrpo_theory.estimators.catalogue.verl import verl_grpo as verl_grpo
from ticgrpo_theory.estimators.catalogue.verl import verl_gspo as verl_gspo
from ticgrpo_theory.estimators.catalogue.verl import verl_opo as verl_opo
from ticgrpo_theory.estimators.catalogue.verl import verl_reinforce_pp as verl_reinforce_pp
from ticgrpo_theory.estimators.catalogue.verl import verl_reinforce_pp_baseline as verl_reinforce_pp_baseline
from ticgrpo_theory.estimators.catalogue.verl import verl_rloo as verl_rloo
from ticgrpo_theory.estimators.catalogue.verl import verl_seq_is_rs as verl_seq_is_rs
from ticgrpo_theory.estimators.catalogue.verl import verl_seq_mean_token_mean as verl_seq_mean_token_mean
from ticgrpo_theory.estimators.catalogue.verl import verl_seq_mean_token_sum as verl_seq_mean_token_sum
from ticgrpo_theory.estimators.catalogue.verl import verl_topr as verl_topr
from ticgrpo_theory.estimators.catalogue.weighed import delta_l as delta_l
from ticgrpo_theory.estimators.catalogue.weighed import dro as dro
from ticgrpo_theory.estimators.catalogue.weighed import maxrl as maxrl
