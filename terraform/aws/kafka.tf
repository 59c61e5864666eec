module "kafka" {
  source  = "terraform-aws-modules/msk-kafka-cluster/aws"
  version = "2.13.1"

  name                   = var.name
  kafka_version          = var.kafka.version
  number_of_broker_nodes = var.zones
  enhanced_monitoring    = "PER_TOPIC_PER_BROKER"

  broker_node_instance_type   = var.kafka.type
  broker_node_client_subnets  = module.network.private_subnets
  broker_node_security_groups = [aws_security_group.stores.id]
  broker_node_storage_info    = { ebs_storage_info = { volume_size = var.kafka.storage } }

  client_authentication = {
    unauthenticated = false
    sasl            = { scram = true }
  }
  # MSK reads the secret then: it must have its value.
  create_scram_secret_association          = var.kafka_secret_written
  scram_secret_association_secret_arn_list = [aws_secretsmanager_secret.kafka.arn]

  encryption_at_rest_kms_key_arn      = module.key.key_arn
  encryption_in_transit_client_broker = "TLS"
  encryption_in_transit_in_cluster    = true

  configuration_name = var.name
  configuration_server_properties = {
    "auto.create.topics.enable"  = "false"
    "default.replication.factor" = tostring(var.zones)
    "min.insync.replicas"        = tostring(local.in_sync)
    "log.retention.ms"           = "-1"
    # Kafka's own topics want three brokers unless they are told how many there are.
    "offsets.topic.replication.factor"         = tostring(var.zones)
    "transaction.state.log.replication.factor" = tostring(var.zones)
    "transaction.state.log.min.isr"            = tostring(local.in_sync)
  }

  enable_storage_autoscaling = true
  scaling_max_capacity       = var.kafka.max_storage
  scaling_target_value       = 60

  # Schemas are kept with the code.
  create_schema_registry = false
}

# The user's name and password are written by hand, as {"username": ..., "password": ...}: a value
# in Terraform would lie in its state. Then var.kafka_secret_written lets Kafka know of it.
resource "aws_secretsmanager_secret" "kafka" {
  name       = "AmazonMSK_${var.name}"
  kms_key_id = module.key.key_arn
}
