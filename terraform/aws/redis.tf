module "redis" {
  source  = "terraform-aws-modules/elasticache/aws"
  version = "1.10.3"

  replication_group_id = var.name
  description          = "Online features"
  engine               = "redis"
  engine_version       = var.redis.version
  node_type            = var.redis.type

  num_cache_clusters         = 1 + var.redis.replicas
  automatic_failover_enabled = var.redis.replicas > 0
  multi_az_enabled           = var.redis.replicas > 0
  snapshot_retention_limit   = var.protect ? 7 : 0

  subnet_ids            = module.network.private_subnets
  create_security_group = false
  security_group_ids    = [aws_security_group.stores.id]

  at_rest_encryption_enabled = true
  kms_key_arn                = module.key.key_arn
  transit_encryption_enabled = true
  transit_encryption_mode    = "required"
  user_group_ids             = [module.redis_users.group_id]

  create_parameter_group = true
  parameter_group_family = "redis7"
  # An evicted feature would be a wrong answer; a full store is an alert.
  parameters = [{ name = "maxmemory-policy", value = "noeviction" }]
}

# AWS demands a user called default; it may do nothing. Ours, redis.user of the chart, is made by
# hand afterwards, its password read from standard input, so that no state and no history holds it:
#
#   aws elasticache create-user --user-id NAME-headwater --user-name headwater --engine redis \
#     --access-string 'on ~* +@all -@dangerous +info' --passwords "$(cat)"
#   aws elasticache modify-user-group --user-group-id NAME --user-ids-to-add NAME-headwater
#
# Who is in the group is left alone by the module.
module "redis_users" {
  source  = "terraform-aws-modules/elasticache/aws//modules/user-group"
  version = "1.10.3"

  user_group_id = var.name
  engine        = "redis"
  default_user = {
    user_id             = "${var.name}-default"
    engine              = "redis"
    access_string       = "off -@all"
    authentication_mode = { type = "no-password-required" }
  }
}
