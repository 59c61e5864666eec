# Public subnets hold load balancers and NAT gateways, private ones everything else.
module "network" {
  source  = "terraform-aws-modules/vpc/aws"
  version = "5.21.0"

  name            = var.name
  cidr            = var.cidr
  azs             = local.zones
  public_subnets  = [for place, _ in local.zones : cidrsubnet(var.cidr, 8, place)]
  private_subnets = [for place, _ in local.zones : cidrsubnet(var.cidr, 4, place + 1)]

  enable_nat_gateway     = true
  single_nat_gateway     = !var.nat_per_zone
  one_nat_gateway_per_az = var.nat_per_zone

  public_subnet_tags  = { "kubernetes.io/role/elb" = "1" }
  private_subnet_tags = { "kubernetes.io/role/internal-elb" = "1" }
}

# Checkpoints and tables are most of the traffic: past the NAT gateways it costs nothing.
module "endpoints" {
  source  = "terraform-aws-modules/vpc/aws//modules/vpc-endpoints"
  version = "5.21.0"

  vpc_id = module.network.vpc_id
  endpoints = {
    s3 = {
      service         = "s3"
      service_type    = "Gateway"
      route_table_ids = module.network.private_route_table_ids
      tags            = { Name = "${var.name}-s3" }
    }
  }
}

# Stores let in the cluster's nodes and nobody else.
resource "aws_security_group" "stores" {
  name        = "${var.name}-stores"
  description = "Kafka, Redis and PostgreSQL, from the cluster"
  vpc_id      = module.network.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "stores" {
  for_each                     = { kafka = 9096, redis = 6379, postgres = 5432 }
  security_group_id            = aws_security_group.stores.id
  description                  = each.key
  referenced_security_group_id = module.cluster.node_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}
